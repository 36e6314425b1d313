/** Every language has every text, and every plural form that its numbers need. */

import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { test } from "node:test";

import en from "../../client/i18n/en.js";

const folder = new URL("../../client/i18n/", import.meta.url);

for (const name of readdirSync(folder)) {
  test(`${name} is whole`, async () => {
    const { default: texts } = await import(new URL(name, folder));
    assert.equal(`${texts.lang.toLowerCase()}.js`, name);
    assert.deepEqual(Object.keys(texts), Object.keys(en));
    assert.deepEqual(Object.keys(texts.status), Object.keys(en.status));
    const { pluralCategories } = new Intl.PluralRules(texts.lang).resolvedOptions();
    for (const key of ["unread", "away", "overall"])
      for (const form of pluralCategories) assert.ok(texts[key][form], `${key}: ${form}`);
    const slots = (text) => (text.match(/\{\w+\}/g) ?? []).sort();
    for (const [key, text] of Object.entries(en))
      if (typeof text === "string") assert.deepEqual(slots(texts[key]), slots(text), key);
  });
}
