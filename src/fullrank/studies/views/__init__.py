"""What the tables and figures of studies are made by: each takes finished runs and gives a part of a page.

Scores are called by their names. The values of the factor `color` are told apart by color and marker, those of the
factor `panel` have a panel each; `rows` and `columns` are factors whose values name those of a table.
"""

from fullrank.studies.views.figures import against, against_number, spectra, through_training
from fullrank.studies.views.tables import overview, pivot

__all__ = ["against", "against_number", "overview", "pivot", "spectra", "through_training"]
