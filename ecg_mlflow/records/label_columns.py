"""Which column of a label file holds what: by a header line, or record,label without one."""

from __future__ import annotations

from dataclasses import dataclass

from ecg_mlflow.errors import DataNotFoundError

_RECORD, _LABEL, _PATIENT = "record", "label", "patient"
#: What other data sets call the column of patients. To pass it over would tear patients apart.
_LIKE_PATIENT = {"patients", "patientid", "patientname", "patientnumber", "subject", "subjectid"}


@dataclass(frozen=True)
class Columns:
    """The columns of a label file, those of a file without a header by default.

    Attributes
    ----------
    names
        All of them, in order.
    from_header
        Whether a header names them.
    """

    names: tuple[str, ...] = (_RECORD, _LABEL)
    from_header: bool = False

    @classmethod
    def of_header(cls, row: list[str], where: str) -> Columns | None:
        """Take the columns from the first line of a file, or return None if it is no header.

        Parameters
        ----------
        row
            The line's cells. A header has the names ``record`` and ``label``, in any case.
        where
            ``file:line``, for errors.

        Raises
        ------
        DataNotFoundError
            If a name stands twice, or patients seem to stand under a name that isn't read.
        """
        names = tuple(cell.strip().casefold() for cell in row)
        if not {_RECORD, _LABEL} <= set(names):
            return None
        twice = [name for name in (_RECORD, _LABEL, _PATIENT) if names.count(name) > 1]
        if twice:
            raise DataNotFoundError(
                f"{where}: the header of the label file has the column {twice[0]!r} "
                f"{names.count(twice[0])} times: {','.join(row)}. Leave one of them."
            )
        alike = [
            cell.strip()
            for cell, name in zip(row, names, strict=True)
            if "".join(filter(str.isalpha, name)) in _LIKE_PATIENT
        ]
        if alike and _PATIENT not in names:
            raise DataNotFoundError(
                f"{where}: the header of the label file has the column {alike[0]!r}, but patients "
                f"are read from a column {_PATIENT!r} only. Rename it, so that the records of one "
                "patient are kept on one side of a split, or take it out."
            )
        return cls(names, from_header=True)

    def read(self, row: list[str]) -> tuple[str, str, str]:
        """Return a line's record, label and patient, '' for what it doesn't have."""
        cells = dict(zip(self.names, map(str.strip, row), strict=False))
        return cells.get(_RECORD, ""), cells.get(_LABEL, ""), cells.get(_PATIENT, "")

    def fault(self, row: list[str]) -> str | None:
        """Say why a line can't be used, or return None."""
        if len(row) != len(self.names):
            if self.from_header:
                return f"{len(row)} columns, but the header has {len(self.names)}"
            hint = f"; a header such as {_RECORD},{_LABEL},{_PATIENT} allows more"
            return f"{len(row)} columns, not record,label" + (hint if len(row) > 2 else "")
        record, label, _ = self.read(row)
        if record and label:
            return None
        return f"an empty {'label' if record else 'record name'}"
