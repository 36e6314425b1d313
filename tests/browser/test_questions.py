"""A task's question on every device: in the list, a bar, a toast; the first answer wins, the others see who."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from tests.browser.conftest import Witness
from tests.browser.test_widgets import HOSTILE, Shop
from tests.support import Service, free_port, wait_for

YES_NO = [{"value": "yes", "text": "Yes, overwrite"}, {"value": "no", "text": "No"}]
PLACES = ("notifier-tasks li", "notifier-progress", "notifier-toasts [part=toast]")


@pytest.fixture
def shop(context: BrowserContext, service: Service, witness: Witness) -> Shop:
    return Shop(context, service, witness)


@pytest.fixture
def second(browser: Browser) -> Iterator[BrowserContext]:
    """Another device of the user."""
    fresh = browser.new_context()
    yield fresh
    fresh.close()


def ask(shop: Shop, task: str, **fields: Any) -> str:
    body = {"text": "Overwrite 312 rows?", "choices": YES_NO, **fields}
    asked = shop._call("POST", f"/v1/tasks/{task}/question", {name: body[name] for name in body if body[name]})
    return str(asked["question"]["id"])


def answer(shop: Shop, task: str, question: str) -> Any:
    with shop.service.client() as client:
        return client.get(f"/v1/tasks/{task}/answer", params={"question": question, "wait_s": 5}).json()


def test_a_question_is_answered_on_one_device_and_closed_on_the_other(
    shop: Shop, second: BrowserContext, service: Service, witness: Witness
) -> None:
    task = shop.begin("Import")
    here = shop.open(task=task)
    other = Shop(second, service, witness)
    other.user = shop.user
    there = other.open(task=task)
    question = ask(shop, task)
    for page in (here, there):
        for place in PLACES:
            expect(page.locator(place).get_by_role("button", name="Yes, overwrite")).to_be_visible()
    here.reload()  # what was asked before is still open
    for place in PLACES:
        expect(here.locator(place).get_by_role("button", name="No")).to_be_visible()
    here.locator("notifier-progress").get_by_role("button", name="Yes, overwrite").click()
    for place in PLACES:
        expect(there.locator(place)).to_contain_text(f"{shop.user} answered first: Yes, overwrite")
    expect(there.get_by_role("button", name="Yes, overwrite")).to_have_count(0)
    expect(here.locator("[part=question]").locator("visible=true")).to_have_count(0)
    expect(here.locator("notifier-toasts [part=toast]")).to_have_count(0)
    for page in (here, there):
        expect(page.locator("notifier-tasks [part=status]")).to_have_text("Running")
    given = answer(shop, task, question)
    assert (given["value"], given["by"]["id"]) == ("yes", shop.user)
    assert witness.faults == []


def test_who_was_not_the_first_sees_whose_answer_counts(
    shop: Shop, second: BrowserContext, service: Service, witness: Witness
) -> None:
    task = shop.begin("Import")
    page = shop.open(task=task)
    question = ask(shop, task)
    button = page.locator("notifier-tasks li").get_by_role("button", name="No")
    expect(button).to_be_visible()
    with service.user(shop.user, name="Ann") as client:
        # The event of this answer reaches the page after its own answer was refused.
        page.route("**/v1/stream*", lambda route: route.abort())
        page.evaluate("notifier.close()")
        client.post(f"/v1/tasks/{task}/answer", json={"question": question, "value": "yes"}).raise_for_status()
    button.click()
    expect(page.locator("notifier-tasks li")).to_contain_text("Ann answered first: Yes, overwrite")
    witness.faults.clear()  # the browser logs the 409


def test_retry_answers_the_question_that_the_user_saw_and_not_the_next(shop: Shop, witness: Witness) -> None:
    task = shop.begin("Import")
    page = shop.open(task=task)
    first = ask(shop, task)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.post_data or "") if "/answer" in request.url else None)
    page.route("**/answer", lambda route: route.fulfill(status=503, body="{}"), times=1)
    page.locator("notifier-tasks li").get_by_role("button", name="Yes, overwrite").click()
    retry = page.locator("notifier-toasts [part=toast]").get_by_role("button", name="Retry")
    expect(retry).to_be_visible()
    with shop.service.user(shop.user) as client:
        client.post(f"/v1/tasks/{task}/answer", json={"question": first, "value": "no"}).raise_for_status()
    second = ask(shop, task, text="Delete the file?")
    row = page.locator("notifier-tasks li")
    expect(row).to_contain_text("Delete the file?")
    with page.expect_response("**/answer"):
        retry.click()
    assert [first in body for body in sent] == [True, True]
    expect(row.get_by_role("button", name="Yes, overwrite")).to_be_visible()
    assert second not in "".join(sent)
    witness.faults.clear()  # the browser logs the 503 and the 409


def test_long_choices_stay_inside_a_narrow_page_and_apart(shop: Shop, witness: Witness) -> None:
    task = shop.begin("Import")
    page = shop.open(task=task)
    page.set_viewport_size({"width": 390, "height": 800})
    long = [{"value": str(n), "text": f"Choice {n} with a text that is rather long"} for n in range(4)]
    ask(shop, task, choices=long)
    for place in PLACES:
        buttons = page.locator(f"{place} [part=question] button")
        expect(buttons).to_have_count(4)
        boxes = buttons.evaluate_all("all => all.map((button) => button.getBoundingClientRect().toJSON())")
        assert all(box["left"] >= 0 and box["right"] <= 390 for box in boxes), place
        for box, below in pairwise(boxes):
            assert below["top"] >= box["bottom"] or below["left"] >= box["right"], place
    assert witness.faults == []


def test_a_questions_toast_outlasts_messages_and_says_who_was_the_first(shop: Shop, witness: Witness) -> None:
    task = shop.begin("Import")
    page = shop.open(task=task)
    question = ask(shop, task)
    toasts = page.locator("notifier-toasts [part=toast]")
    asked = toasts.filter(has=page.locator("[part=question]"))
    expect(asked).to_have_count(1)
    for number in range(5):
        shop.publish(f"Number {number}")
        expect(toasts.filter(has_text=f"Number {number}")).to_be_visible()
    expect(asked).to_have_count(1)
    page.evaluate("notifier.close()")  # the event of the answer arrives later
    with shop.service.user(shop.user, name="Ann") as client:
        client.post(f"/v1/tasks/{task}/answer", json={"question": question, "value": "yes"}).raise_for_status()
    asked.get_by_role("button", name="No").click()
    expect(asked).to_contain_text("Ann answered first: Yes, overwrite")
    page.evaluate("id => void store.dismiss(id).catch(() => {})", task)  # as the event: the question is gone
    expect(asked).to_contain_text("Ann answered first: Yes, overwrite")
    witness.faults.clear()  # the browser logs the 409


def test_a_question_for_text_takes_any_text(shop: Shop, witness: Witness) -> None:
    task = shop.begin("Import")
    page = shop.open(task=task)
    question = ask(shop, task, choices=None, input="text", text="Which sheet?")
    field = page.locator("notifier-tasks li").get_by_role("textbox", name="Which sheet?")
    field.fill("Zürich 😀")
    field.press("Enter")
    expect(field).to_have_count(0)
    assert answer(shop, task, question)["value"] == "Zürich 😀"
    assert witness.faults == []


def test_hostile_questions_run_nothing(shop: Shop, witness: Witness) -> None:
    task = shop.begin("Import")
    page: Page = shop.open(task=task)
    choices = [{"value": text, "text": text} for text in HOSTILE]
    ask(shop, task, text=HOSTILE[0], choices=choices)
    expect(page.locator("notifier-tasks li [part=question]")).to_contain_text(HOSTILE[0])
    expect(page.locator("notifier-tasks li [part=question] button")).to_have_count(len(HOSTILE))
    assert page.title() == "Widgets"
    assert witness.faults == []


def test_a_question_outlasts_a_killed_service_and_one_of_two_answers_at_once_counts(
    context: BrowserContext, second: BrowserContext, tmp_path: Path
) -> None:
    port = free_port()
    env = {"NOTIFIER_BROKER_URL": f"sqlite://{tmp_path}/notifier.db"}
    service = Service(port=port, env=env)
    try:
        shop, other = (Shop(device, service, Witness(service.url)) for device in (context, second))
        other.user = shop.user
        task = shop.begin("Import")
        pages = [shop.open(task=task), other.open(task=task)]
        question = ask(shop, task)
        buttons = [
            page.locator("notifier-progress").get_by_role("button", name=name, exact=True)
            for page, name in zip(pages, ("Yes, overwrite", "No"), strict=True)
        ]
        for button in buttons:
            expect(button).to_be_visible()
        service.process.child.kill()
        service.process.child.wait()
        for page in pages:
            wait_for(lambda page=page: page.evaluate("notifier.state") != "live", what="the loss")
        service.stop()
        service = shop.service = other.service = Service(port=port, env=env)
        stopped: list[Route] = []
        for page, button in zip(pages, buttons, strict=True):
            wait_for(lambda page=page: page.evaluate("notifier.state") == "live", timeout_s=30, what="the stream")
            page.route("**/answer", lambda route: stopped.append(route))  # Playwright sets an attribute of it
            button.click()
        wait_for(lambda: all(page.evaluate("1") for page in pages) and len(stopped) == 2, what="both answers")
        for route in stopped:
            route.continue_()
        given = answer(shop, task, question)["value"]
        loser, text = (pages[1], "Yes, overwrite") if given == "yes" else (pages[0], "No")
        expect(loser.locator("notifier-progress")).to_contain_text(f"{shop.user} answered first: {text}")
        for page in pages:
            expect(page.get_by_role("button", name="Yes, overwrite")).to_have_count(0)
    finally:
        service.stop()
