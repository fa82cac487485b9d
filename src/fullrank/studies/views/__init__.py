"""What the tables and figures of studies are made by: each takes finished runs and gives a part of a page."""

from fullrank.studies.views.lines import spectra, through_training
from fullrank.studies.views.points import against, against_number
from fullrank.studies.views.tables import overview, pivot

__all__ = ["against", "against_number", "overview", "pivot", "spectra", "through_training"]
