"""What Python calls return: results that show themselves in a notebook, and turn into tables."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from fullrank.documents import Document
from fullrank.errors import FullrankError

if TYPE_CHECKING:
    import pandas


class Shown(ABC):
    """A result with a document of its own."""

    @abstractmethod
    def document(self) -> Document:
        """Return what the command line would print of it, or write as a page."""

    @abstractmethod
    def rows(self) -> list[dict[str, Any]]:
        """Return its numbers, a dictionary a row."""

    def _repr_html_(self) -> str:
        return self.document()._repr_html_()

    def to_dataframe(self) -> pandas.DataFrame:
        """Return `rows` as a pandas DataFrame.

        Raises:
            FullrankError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise FullrankError("to_dataframe needs pandas: pip install pandas, or take rows()") from None
        return pandas.DataFrame(self.rows())
