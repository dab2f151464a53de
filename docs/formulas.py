"""Formulas of docstrings, as a person types them, as MathML: which literals are formulas, and what they say in TeX.

A docstring says ``L = mean_i KL(t_i || s_i)``, which reads in a terminal; the site draws it. Whatever has a letter or a
sign that ``tex`` does not know stays as it was typed.
"""

import re

from latex2mathml.converter import convert

GREEK = (
    "alpha", "beta", "gamma", "delta", "epsilon", "eta", "theta", "kappa", "lambda", "pi", "rho", "sigma", "tau", "phi",
)  # fmt: skip
SIGNS = {
    "||": r"\parallel ", ">=": r"\ge ", "<=": r"\le ", "!=": r"\ne ", "+-": r"\pm ", "-+": r"\mp ", "sum": r"\sum",
    "...": r"\ldots ", "..": r"\ldots ", "|": r"\vert ", "*": r"\cdot ", "%": r"\% ", "{": r"\{", "}": r"\}",
    "'": r"^{\prime}",
}  # fmt: skip
TOKEN = re.compile(
    r"(?P<space>\s+)|(?P<number>\d+(?:\.\d+)?(?:e-?\d+)?)|(?P<name>[A-Za-z]+\d*(?:\.[a-z]+)?)|(?P<script>[_^])"
    r"|(?P<sign>\|\||>=|<=|!=|\+-|-\+|\.\.\.|\.\.|[-+=/<>()\[\]{},.:;'~|*%!])"
)
SCRIPT = re.compile(r"\{[^{}]*\}|\([^()]*\)|-?[A-Za-z0-9]+(?:\.\.[A-Za-z0-9]+)?(?:\|[a-z]\b)?|\+")
FORMULA = re.compile(r"\s(=|\|\||>=|<=|~)\s|\^|\b(sum|mean)_|\b(sqrt|relu)\(|\|\w.*\|")
FUNCTIONS = ("log", "exp", "mean", "sum", "softmax", "max", "min", "sqrt", "sin", "cos")
PROSE = re.compile(r"\b(?=([a-z]{2,}) ([a-z]{2,})\b)")  # two words side by side
CALL = re.compile(r"\w=[^=]|=\w|[\"\\@#&`$]|\w\.\w+\(|\(\.\.\.")  # of Python, not of a formula


def is_formula(text: str) -> bool:
    """Whether a literal of a docstring is a formula: an equation, a divergence, a sum or a power, and not Python."""
    plain = re.sub(r"\{[^{}]*\}", "", text)
    words = [pair for pair in PROSE.findall(plain) if not {*pair} & {*FUNCTIONS, *GREEK}]
    return bool(FORMULA.search(text)) and not CALL.search(plain) and not words


def tex(text: str) -> str:
    """A formula in TeX.

    Args:
        text: as typed: names of one letter are variables, ``_`` and ``^`` begin an index or a power, which is a run of
            letters and digits or stands in brackets; ``sum`` and Greek letters are written out.

    Raises:
        ValueError: for a sign that is not known.
    """
    made, at = [], 0
    while at < len(text):
        if (found := TOKEN.match(text, at)) is None:
            raise ValueError(f"{text!r} has no meaning from {text[at:]!r} on")
        at, kind, word = found.end(), found.lastgroup, found[0]
        if kind == "script":
            if (script := SCRIPT.match(text, at)) is None:
                raise ValueError(f"{text!r} has no index at {text[at - 1 :]!r}")
            at, inner = script.end(), script[0]
            inner = inner[1:-1] if inner[0] in "{(" and word == "^" or inner[0] == "{" else inner
            made.append(f"{word}{{{_index(inner)}}}")
        elif kind == "name":
            made.append(_name(word))
        elif word == "." and text[at - 2 : at - 1].isspace():
            made.append(r"\cdot ")
        elif kind == "sign" and word == "~" and text[at - 2 : at - 1].isspace():
            made.append(r"\sim ")
        elif kind == "sign" and word == "~":
            made[-1] = rf"\tilde{{{made[-1]}}}"
        elif kind == "sign":
            made.append(SIGNS.get(word, word))
        elif kind == "space":
            made.append(r"\, ")
        else:
            digits, _, power = word.partition("e")
            times = "" if digits == "1" else rf"{digits} \cdot "
            made.append(f"{times}10^{{{power}}}" if power else digits)
    return "".join(made)


def _index(text: str) -> str:
    """An index: small letters side by side are several indices, anything longer is a word."""
    several = text.isalpha() and text.islower() and text not in GREEK
    return text if several and len(text) <= 3 else tex(text).strip()


def _name(word: str) -> str:
    if word in GREEK:
        return rf"\{word} "
    if word in SIGNS:
        return SIGNS[word]
    return word if len(word) == 1 else rf"\mathrm{{{word}}}"


def mathml(text: str) -> str | None:
    """A formula as an element of a page; None for what is no formula or has an unknown sign."""
    if not is_formula(text):
        return None
    try:
        return convert(tex(text))
    except ValueError:
        return None
