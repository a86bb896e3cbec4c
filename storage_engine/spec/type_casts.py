"""Which types a column may change to without losing a value of an old file."""

from __future__ import annotations

from storage_engine.spec.types import BINARY_ROOTS, STRING_ROOTS, TIMESTAMP_ROOTS, DataType, TypeRoot

_INTEGER_DIGITS = {TypeRoot.TINYINT: 3, TypeRoot.SMALLINT: 5, TypeRoot.INT: 10, TypeRoot.BIGINT: 19}
_EXACT_DIGITS = {TypeRoot.FLOAT: 7, TypeRoot.DOUBLE: 15}


def is_lossless_cast(source: DataType, target: DataType) -> bool:
    """Whether every value of ``source`` has its equal in ``target``; nullability is not looked at.

    Integers widen, also to DECIMAL and to floats that hold all their digits; DECIMAL, CHAR, BINARY and TIMESTAMP grow.
    """
    if source.root in _INTEGER_DIGITS:
        return _integer_fits(source.root, target)
    if source.root is TypeRoot.FLOAT:
        return target.root is TypeRoot.DOUBLE
    if source.root is TypeRoot.DECIMAL:
        return _decimal_fits(source, target)
    if source.root in STRING_ROOTS:
        return target.root in STRING_ROOTS and _length(source) <= _length(target)
    if source.root in BINARY_ROOTS:
        return target.root in BINARY_ROOTS and _length(source) <= _length(target)
    if source.root in TIMESTAMP_ROOTS or source.root is TypeRoot.TIME:
        return target.root is source.root and _precision(source) <= _precision(target)
    return False


def _integer_fits(root: TypeRoot, target: DataType) -> bool:
    digits = _INTEGER_DIGITS[root]
    if target.root in _INTEGER_DIGITS:
        return digits <= _INTEGER_DIGITS[target.root]
    if target.root is TypeRoot.DECIMAL:
        return digits <= _precision(target) - (target.scale or 0)
    return digits <= _EXACT_DIGITS.get(target.root, 0)


def _decimal_fits(source: DataType, target: DataType) -> bool:
    if target.root is not TypeRoot.DECIMAL:
        return False
    source_scale, target_scale = source.scale or 0, target.scale or 0
    whole = _precision(source) - source_scale <= _precision(target) - target_scale
    return whole and source_scale <= target_scale


def _length(data_type: DataType) -> int:
    return data_type.length or 1


def _precision(data_type: DataType) -> int:
    return data_type.precision or 0
