"""Certificates of bounds on width problems as JSON files; docs/formats.md describes the fields."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from problems.conversions import of_kind
from problems.errors import ProblemError
from problems.files import read_json, reject_unknown_fields, require_field, write_text_atomically
from problems.widths.certificates import BoundCertificate

FORMAT = "upscale_opt.width_bound"
VERSION = 1
_FIELDS = ("loss_weight", "time_weight", "bound")


def write_certificate(certificate: BoundCertificate, path: str | Path) -> None:
    """Write a certificate to a file, in one step.

    Raises
    ------
    ProblemError
        If the path cannot be written.
    """
    of_kind(certificate, BoundCertificate, "the certificate")
    document = {"format": FORMAT, "version": VERSION, **dataclasses.asdict(certificate)}
    write_text_atomically(json.dumps(document) + "\n", path)


def read_certificate(path: str | Path) -> BoundCertificate:
    """Read a certificate from a file. It proves nothing before `check_certificate` has computed it again.

    Raises
    ------
    ProblemError
        If the file cannot be read, is newer than this program, or a field is wrong. The message names the field.
    """
    document = read_json(path, file_format=FORMAT, version=VERSION)
    try:
        reject_unknown_fields(document, {"format", "version", *_FIELDS}, "the certificate")
        return BoundCertificate(**{field: require_field(document, field, int, "the certificate") for field in _FIELDS})
    except ProblemError as error:
        raise ProblemError(f"{path}: {error}") from error
