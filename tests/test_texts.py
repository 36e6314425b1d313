"""Every language has every text, from one catalogue: what `python -m tools.texts` makes is what is committed."""

from __future__ import annotations

import functools
import gettext
import subprocess
import sys

import pytest
from babel.messages.catalog import Catalog, Message

from tests.support import REPOSITORY
from tools import texts

AGAIN = "run: python -m tools.texts"
LANGUAGES = pytest.mark.parametrize("language", texts.PLURALS)
NUMBERS = [*range(250), 1000, 1_000_000, 2_000_000, 1_000_001]


def test_the_languages_of_the_documentation_are_there() -> None:
    assert set(texts.PLURALS) == {
        *("ar", "de", "es", "fr", "he", "it", "ja", "nl", "pl", "pt-br", "ru", "tr", "uk", "zh-hans"),
    }
    modules = {path.stem for path in texts.CLIENT.glob("*.js")}
    assert modules == {*texts.PLURALS, "en"}


def test_the_texts_of_widgets_and_of_django_are_found() -> None:
    for source in (
        ("widgets.unread", ("{n} unread message", "{n} unread messages")),
        ("widgets.status.stalled", "Stalled"),
        (None, "Something went wrong."),
        (None, ("%d call", "%d calls")),
        (None, "No messages."),  # of a template
    ):
        assert source in english()


@functools.cache
def english() -> tuple[texts.Source, ...]:
    return tuple(texts.sources())


@functools.cache
def updated(language: str) -> Catalog:
    return texts.updated(language, english())


@LANGUAGES
def test_no_text_lacks_a_translation(language: str) -> None:
    assert texts.untranslated(updated(language)) == [], f"translate it in {texts.catalogue(language)}, then {AGAIN}"


@LANGUAGES
def test_a_translation_has_the_places_of_its_text(language: str) -> None:
    for message in updated(language):
        if message.id:
            forms = [message.string] if isinstance(message.string, str) else message.string
            source = message.id if isinstance(message.id, str) else message.id[1]
            assert all(places(form) == places(source) for form in forms), message


def places(text: str) -> set[str]:
    return {word for word in ("{n}", "{name}", "{time}", "%d", "%s") if word in text}


@LANGUAGES
def test_the_module_of_the_client_is_made_from_the_catalogue(language: str) -> None:
    module = (texts.CLIENT / f"{language}.js").read_text("utf-8")
    assert module == texts.as_module(language, updated(language)), AGAIN


@LANGUAGES
def test_django_reads_what_the_catalogue_has(language: str) -> None:
    with texts.catalogue(language).with_suffix(".mo").open("rb") as file:
        compiled = gettext.GNUTranslations(file)
    for message in updated(language):
        if not message.id:
            continue
        for n in (1, 2, 5, 11) if message.pluralizable else (1,):
            assert translated(compiled, message, n) == expected(language, message, n), AGAIN


def translated(compiled: gettext.GNUTranslations, message: Message, n: int) -> str:
    if isinstance(message.id, str):
        context = message.context
        return compiled.gettext(message.id) if context is None else compiled.pgettext(context, message.id)
    singular, plural = message.id
    if message.context is None:
        return compiled.ngettext(singular, plural, n)
    return compiled.npgettext(message.context, singular, plural, n)


def expected(language: str, message: Message, n: int) -> str:
    if isinstance(message.string, str):
        return message.string
    form = texts.locale_of(language).plural_form(n)
    return str(message.string[texts.forms_of(language).index(form)])


@LANGUAGES
def test_gettext_chooses_the_plural_form_of_cldr(language: str) -> None:
    choose = gettext.c2py(texts.PLURALS[language])  # type: ignore[attr-defined]  # the function of gettext itself
    cldr = texts.locale_of(language).plural_form
    forms = texts.forms_of(language)
    assert [forms[int(choose(n))] for n in NUMBERS] == [cldr(n) for n in NUMBERS]


def test_a_new_text_is_missing_in_every_language() -> None:
    more = [*english(), ("widgets.new", "A new text")]
    assert all(texts.untranslated(texts.updated(language, more)) == ["widgets.new"] for language in texts.PLURALS)


DJANGO = """
import django
from django.conf import settings
settings.configure(INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django_bridge"])
django.setup()
from django.utils import translation
from django_bridge.models import TaskRecord
for language in ("de", "pt-br", "zh-hans", "ru"):
    with translation.override(language):
        print(TaskRecord._meta.verbose_name_plural, TaskRecord(status="failed").get_status_display())
"""


def test_django_shows_the_texts_of_its_language() -> None:
    done = subprocess.run([sys.executable, "-c", DJANGO], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["Aufgaben fehlgeschlagen", "tarefas com falha", "任务 失败", "задачи ошибка"]
