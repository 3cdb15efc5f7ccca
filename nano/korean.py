"""A small Korean conjugator: enough grammar to inflect the predicates of the review banks.

>>> conjugate("맵다", "polite"), conjugate("빠르다", "past polite"), conjugate("최고=", "polite")
('매워요', '빨랐어요', '최고예요')
"""

from __future__ import annotations

_BASE, _VOWELS, _FINALS = 0xAC00, 21, 28
_A, _YA, _AE, _EO, _E, _YEO, _O, _WA, _OE, _WAE, _U, _WO, _EU, _I = (
    0, 2, 1, 4, 5, 6, 8, 9, 11, 10, 13, 14, 18, 20,
)  # fmt: skip
_NIEUN, _RIEUL, _MIEUM, _BIEUP, _SS = 4, 8, 16, 17, 20

_REGULAR_BIEUP = ("좁", "잡", "입", "뽑", "씹")
_REGULAR_REU = ("들르", "치르", "따르")
_INFINITIVES = {"하": "해", "그렇": "그래", "이렇": "이래", "낫": "나아", "푸르": "푸르러"}
_CONTRACTIONS = {(_O, _A): _WA, (_U, _EO): _WO, (_I, _EO): _YEO, (_OE, _EO): _WAE}

# Ending: the form it is attached to (stem, infinitive or past stem) and its text.
ENDINGS = {
    "polite": ("infinitive", "요"),
    "formal": ("stem", "ㅂ니다"),
    "casual": ("infinitive", ""),
    "nominal": ("stem", "ㅁ"),
    "surprise": ("stem", "네요"),
    "casual surprise": ("stem", "네"),
    "report": ("stem", "더라고요"),
    "past polite": ("past", "어요"),
    "past formal": ("past", "습니다"),
    "past casual": ("past", "어"),
    "past nominal": ("past", "음"),
    "past surprise": ("past", "네요"),
    "past plain": ("past", "다"),
    "and": ("stem", "고"),
    "but": ("stem", "지만"),
    "though": ("stem", "긴 한데"),
    "because": ("infinitive", "서"),
    "past and": ("past", "고"),
    "past but": ("past", "지만"),
    "past while": ("past", "는데"),
}


def _split(syllable: str) -> tuple[int, int, int]:
    code = ord(syllable) - _BASE
    return code // (_VOWELS * _FINALS), code // _FINALS % _VOWELS, code % _FINALS


def _join(initial: int, vowel: int, final: int = 0) -> str:
    return chr(_BASE + (initial * _VOWELS + vowel) * _FINALS + final)


def has_final(word: str) -> bool:
    """Whether the last syllable of `word` ends in a consonant (other scripts count as open)."""
    last = word[-1]
    return "가" <= last <= "힣" and _split(last)[2] != 0


def particle(word: str, closed: str, opened: str) -> str:
    """`word` with the particle its last sound asks for: `particle("맛", "이", "가") == "맛이"`."""
    return word + (closed if has_final(word) else opened)


def _with_final(text: str, final: int) -> str:
    initial, vowel, _ = _split(text[-1])
    return text[:-1] + _join(initial, vowel, final)


def _irregular_bieup(stem: str) -> bool:
    return _split(stem[-1])[2] == _BIEUP and not stem.endswith(_REGULAR_BIEUP)


def infinitive(stem: str) -> str:
    """The 아/어 form: `infinitive("맵") == "매워"`."""
    for ending, form in _INFINITIVES.items():
        if stem.endswith(ending):
            return stem[: -len(ending)] + form
    initial, vowel, final = _split(stem[-1])
    if _irregular_bieup(stem):
        return _with_final(stem, 0) + "워"
    if stem[-1] == "르" and len(stem) > 1 and not stem.endswith(_REGULAR_REU):
        before = _split(stem[-2])[1]
        return _with_final(stem[:-1], _RIEUL) + ("라" if before in (_A, _O) else "러")
    if final == 0 and vowel == _EU:
        bright = len(stem) > 1 and "가" <= stem[-2] <= "힣" and _split(stem[-2])[1] in (_A, _O)
        return stem[:-1] + _join(initial, _A if bright else _EO)
    suffix = _A if vowel in (_A, _YA, _O) else _EO
    if final:
        return stem + ("아" if suffix == _A else "어")
    if (vowel, suffix) in _CONTRACTIONS:
        return stem[:-1] + _join(initial, _CONTRACTIONS[vowel, suffix])
    if vowel in (_A, _EO, _YEO, _AE, _E):
        return stem
    return stem + "어"


def _attach_to_stem(stem: str, ending: str) -> str:
    final = _split(stem[-1])[2]
    if ending == "ㅂ니다":
        if final in (0, _RIEUL):
            return _with_final(stem, _BIEUP) + "니다"
        return stem + "습니다"
    if ending == "ㅁ":
        if _irregular_bieup(stem):
            return _with_final(stem, 0) + "움"
        return _with_final(stem, _MIEUM) if final == 0 else stem + "음"
    if ending.startswith("네") and final == _RIEUL:
        return _with_final(stem, 0) + ending
    return stem + ending


def _copula(noun: str, base: str, ending: str) -> str:
    closed = has_final(noun)
    link = "이" if closed else ""
    if base == "past":
        return noun + ("이었" if closed else "였") + ending
    if base == "infinitive":
        polite = "이에요" if closed else "예요"
        return noun + {"요": polite, "": link + "야", "서": link + "라서"}[ending]
    return {"ㅂ니다": noun + "입니다", "ㅁ": noun + "임"}.get(ending, noun + link + ending)


def conjugate(predicate: str, form: str) -> str:
    """`predicate` (dictionary form, or a noun ending in `=`) with the ending named `form`."""
    base, ending = ENDINGS[form]
    if predicate.endswith("="):
        return _copula(predicate[:-1], base, ending)
    stem = predicate.removesuffix("다")
    if stem.endswith("아니") and base == "infinitive":
        return stem + {"요": "에요", "": "야", "서": "라서"}[ending]
    if base == "stem":
        return _attach_to_stem(stem, ending)
    joined = stem + "어" if stem.endswith("아니") else infinitive(stem)
    if base == "past":
        return _with_final(joined, _SS) + ending
    if stem.endswith(("시", "으시")) and ending == "요" and joined.endswith("셔"):
        return joined[:-1] + "세요"
    return joined + ending
