"""The texts of widgets and Django, in every language: `python -m tools.texts` after a text was added or translated.

The English texts are in `client/i18n/en.js` and in `django_bridge`. Each other language has one gettext catalogue,
`django_bridge/locale/*/LC_MESSAGES/django.po`: a widget's text has its key as the context. This brings the catalogues
up to date, and makes from each one `django.mo`, which Django reads, and the module in `client/i18n`. Its plural forms
are those of CLDR, in the order of `FORMS`, so that gettext and `Intl.PluralRules` choose the same.
"""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from babel import Locale
from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

ROOT: Final = Path(__file__).resolve().parent.parent
BRIDGE: Final = ROOT / "django_bridge"
CLIENT: Final = ROOT / "client" / "i18n"
FORMS: Final = ("zero", "one", "two", "few", "many", "other")
_SLAVIC: Final = "n % 10 >= 2 && n % 10 <= 4 && (n % 100 < 12 || n % 100 > 14) ? 1 : 2"
_MILLIONS: Final = "n != 0 && n % 1000000 == 0 ? 1 : 2"
PLURALS: Final = {
    "ar": "n == 0 ? 0 : n == 1 ? 1 : n == 2 ? 2 : n % 100 >= 3 && n % 100 <= 10 ? 3 : n % 100 >= 11 ? 4 : 5",
    "de": "n != 1",
    "es": f"n == 1 ? 0 : {_MILLIONS}",
    "fr": f"n == 0 || n == 1 ? 0 : {_MILLIONS}",
    "he": "n == 1 ? 0 : n == 2 ? 1 : 2",
    "it": f"n == 1 ? 0 : {_MILLIONS}",
    "ja": "0",
    "nl": "n != 1",
    "pl": f"n == 1 ? 0 : {_SLAVIC}",
    "pt-br": f"n == 0 || n == 1 ? 0 : {_MILLIONS}",
    "ru": f"n % 10 == 1 && n % 100 != 11 ? 0 : {_SLAVIC}",
    "tr": "n != 1",
    "uk": f"n % 10 == 1 && n % 100 != 11 ? 0 : {_SLAVIC}",
    "zh-hans": "0",
}
"""The languages beside English, by their names in Django, and the index of the plural form of a whole number. The last
form of Slavic languages is for fractions."""
WIDGETS: Final = "widgets."
"""How the context of a widget's text begins; its key follows."""
_FUNCTIONS: Final[Any] = {"_": None, "gettext": None, "gettext_lazy": None, "ngettext": (1, 2)}
_TAG: Final = re.compile(r"""{%\s*trans(?:late)?\s+"([^"]+)"(?:\s+as\s+\w+)?\s*%}""")
_STRING_OR_KEY: Final = re.compile(r'("(?:[^"\\]|\\.)*")|(\w+)\s*:|,(?=\s*[}\]])')

Text = str | dict[str, str]
"""A text, or its plural forms by name."""
Source = tuple[str | None, str | tuple[str, str]]
"""The context of an English text, and the text or the pair of its forms."""


def main() -> None:
    lacking, english = 0, list(sources())
    for language in PLURALS:
        catalog = updated(language, english)
        lacking += len(missing := untranslated(catalog))
        for name in missing:
            print(f"{language}: {name} is not translated")
        path = catalogue(language)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(as_po(language, catalog))
        path.with_suffix(".mo").write_bytes(as_mo(language, catalog))
        (CLIENT / f"{language}.js").write_text(as_module(language, catalog), "utf-8")
    sys.exit(1 if lacking else 0)


def catalogue(language: str) -> Path:
    """The catalogue of a language."""
    base, _, region = language.partition("-")
    locale = base if not region else f"{base}_{region.upper() if len(region) == 2 else region.title()}"
    return BRIDGE / "locale" / locale / "LC_MESSAGES" / "django.po"


def locale_of(language: str) -> Locale:
    return Locale.parse(catalogue(language).parent.parent.name)


def forms_of(language: str) -> tuple[str, ...]:
    """The names of a language's plural forms, in the order of its catalogue."""
    tags = locale_of(language).plural_form.tags
    return tuple(form for form in FORMS if form in tags or form == "other")


# The English texts


def widget_texts(source: str | None = None) -> dict[str, Any]:
    """The texts of a module of `client/i18n`, by their keys; by default the English ones."""
    text = (CLIENT / "en.js").read_text("utf-8") if source is None else source
    body = text[text.index("export default") + len("export default") :].strip().rstrip(";")
    texts: dict[str, Any] = json.loads(_STRING_OR_KEY.sub(lambda m: m[1] or (f'"{m[2]}":' if m[2] else ""), body))
    return texts


def sources() -> Iterator[Source]:
    """Context and English text of all that is translated; a text with a plural is the pair of its forms."""
    for key, text in _flat(widget_texts()):
        yield f"{WIDGETS}{key}", text if isinstance(text, str) else (text["one"], text["other"])
    seen: set[object] = set()
    for message in _bridge_texts():
        if message not in seen:
            seen.add(message)
            yield None, message


def _flat(texts: Mapping[str, Any]) -> Iterator[tuple[str, Text]]:
    for key, text in texts.items():
        if key == "status":
            yield from ((f"status.{name}", shown) for name, shown in text.items())
        elif key != "lang":
            yield key, text


def _bridge_texts() -> Iterator[str | tuple[str, str]]:
    for path in sorted(BRIDGE.rglob("*.py")):
        with path.open("rb") as file:
            for _, message, _, _ in extract("python", file, keywords=_FUNCTIONS):
                yield message if isinstance(message, str) else (message[0], message[1])
    for path in sorted((BRIDGE / "templates").rglob("*.html")):
        yield from _TAG.findall(path.read_text("utf-8"))


# A catalogue


def updated(language: str, english: Iterable[Source]) -> Catalog:
    """The catalogue of a language with exactly the texts of `sources()`: new ones are empty, translations stay.

    Translations of texts that are gone are kept as obsolete, and used when the text is there again.
    """
    path = catalogue(language)
    old = read_po(io.BytesIO(path.read_bytes())) if path.is_file() else Catalog()
    known: dict[Any, Message] = {_key(message): message for message in (*old.obsolete.values(), *old) if message.id}
    catalog = Catalog(locale_of(language))
    catalog.mime_headers = [("Plural-Forms", _plural_forms(language))]
    for context, text in english:
        empty: Any = "" if isinstance(text, str) else ("",) * len(forms_of(language))
        earlier = known.pop((text if isinstance(text, str) else text[0], context or ""), None)
        fits = earlier is not None and isinstance(earlier.string, str) == isinstance(empty, str)
        fits = fits and (isinstance(empty, str) or len(earlier.string) == len(empty))
        catalog.add(text, earlier.string if fits else empty, context=context)
    catalog.obsolete.update(known)
    return catalog


def _key(message: Message) -> tuple[str, str]:
    return message.id if isinstance(message.id, str) else message.id[0], message.context or ""


def untranslated(catalog: Catalog) -> list[str]:
    """The texts that a catalogue lacks."""
    return [
        message.context or str(message.id)
        for message in catalog
        if message.id and not all([message.string] if isinstance(message.string, str) else message.string)
    ]


def as_po(language: str, catalog: Catalog) -> bytes:
    written = io.BytesIO()
    write_po(written, catalog, width=0, omit_header=True)
    headers = {
        "Language": str(catalog.locale),
        "MIME-Version": "1.0",
        "Content-Type": "text/plain; charset=utf-8",
        "Content-Transfer-Encoding": "8bit",
        "Plural-Forms": _plural_forms(language),
    }
    lines = "".join(f'"{name}: {value}\\n"\n' for name, value in headers.items())
    return f'msgid ""\nmsgstr ""\n{lines}\n'.encode() + written.getvalue().lstrip()


def as_mo(language: str, catalog: Catalog) -> bytes:
    written = io.BytesIO()
    plain = read_po(io.BytesIO(as_po(language, catalog)))
    plain.creation_date = plain.revision_date = datetime(2026, 1, 1, tzinfo=UTC)  # the same texts give the same bytes
    write_mo(written, plain)
    return written.getvalue()


def _plural_forms(language: str) -> str:
    return f"nplurals={len(forms_of(language))}; plural=({PLURALS[language]});"


def as_module(language: str, catalog: Catalog) -> str:
    """The module with the widgets' texts, in the form of the client's formatter."""
    texts: dict[str, Any] = {"lang": str(locale_of(language)).replace("_", "-")}
    for key, text in _flat(widget_texts()):
        message = catalog.get(text if isinstance(text, str) else text["one"], WIDGETS + key)
        assert message is not None
        shown: Any = message.string
        if not isinstance(text, str):
            shown = dict(zip(forms_of(language), shown, strict=True))
        place = texts.setdefault("status", {}) if key.startswith("status.") else texts
        place[key.removeprefix("status.")] = shown
    comment = (
        f"/** {locale_of(language).english_name}. Made from the catalogue in django_bridge/locale by tools/texts.py. */"
    )
    lines = [comment, "", '/** @type {import("../types.js").Texts} */', "export default {"]
    for key, text in texts.items():
        if isinstance(text, str):
            lines.append(f"  {key}: {_quoted(text)},")
        else:
            lines += [f"  {key}: {{", *(f"    {name}: {_quoted(form)}," for name, form in text.items()), "  },"]
    return "\n".join([*lines, "};", ""])


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


if __name__ == "__main__":
    main()
