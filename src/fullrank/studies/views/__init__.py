"""What the tables and figures of studies are made by: each takes finished runs and gives a part of a page."""

from fullrank.studies.views.figures import against, against_number, spectra, through_training
from fullrank.studies.views.tables import overview, pivot

__all__ = ["against", "against_number", "overview", "pivot", "spectra", "through_training"]
