import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { closeBrowser, withSetting } from './support/browser.js';

after(closeBrowser);

test('everything can be done by keyboard alone', () =>
  withSetting(async (setting) => {
    const one = await setting.device();
    const { keyboard } = one.page;
    const press = async (...keys) => {
      for (const key of keys) await keyboard.press(key);
    };
    await press('n');
    for (const title of ['Wash', 'Iron', 'Fold']) {
      await keyboard.type(title);
      await press('Enter');
      await one.row(title).waitFor();
    }
    // From the field past the button and the filter to the first row: its grip, its box, its text.
    await press('Tab', 'Tab', 'Tab', 'Tab', 'Space');
    await one.page.locator('.todo.done', { hasText: 'Wash' }).waitFor();
    await press('Tab', 'ArrowDown', 'Alt+ArrowUp');
    await one.lists('Iron', 'Wash', 'Fold');
    await press('Alt+ArrowDown');
    await one.lists('Wash', 'Iron', 'Fold');

    await press('Enter');
    await keyboard.type('Iron shirts');
    await press('Escape');
    await one.lists('Wash', 'Iron', 'Fold');
    await press('Enter');
    await keyboard.type('Iron shirts');
    await press('Tab');
    await keyboard.type('blue ones');
    await press('Control+Enter');
    await one.lists('Wash', 'Iron shirts', 'Fold');

    await press('Delete');
    await one.lists('Wash', 'Fold');
    await press('Control+z');
    await one.lists('Wash', 'Iron shirts', 'Fold');

    await press('?');
    await one.page.getByRole('dialog', { name: 'Keys' }).waitFor();
    await press('Escape');
    await one.page.getByRole('dialog', { name: 'Keys' }).waitFor({ state: 'hidden' });

    await one.page.getByRole('switch', { name: 'Online' }).focus();
    await press('Space');
    await one.status('switched-off');
    await press('Space');
    await one.synced();
    // The announcement is what a screen reader hears.
    await one.shows('#announcements', 'Up to date');
  }));

test('every control has a name', () =>
  withSetting(async (setting) => {
    const one = await setting.device();
    await one.add('Something');
    await one.openDetails();
    const nameless = await one.page.evaluate(() =>
      [...document.querySelectorAll('button, input, textarea, a')]
        .filter((element) => element.checkVisibility())
        .filter((element) => {
          const label = element.getAttribute('aria-label') ?? element.textContent.trim();
          return !(label || element.labels?.[0]?.textContent.trim());
        })
        .map((element) => element.outerHTML),
    );
    assert.deepEqual(nameless, []);
  }));

for (const colorScheme of ['light', 'dark']) {
  test(`a ${colorScheme} phone of 360 pixels shows all of it without scrolling sideways`, () =>
    withSetting(async (setting) => {
      const one = await setting.device({
        viewport: { width: 360, height: 720 },
        colorScheme,
        hasTouch: true,
        isMobile: true,
      });
      const long = 'Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamter';
      for (const name of [long, 'Another list', 'And one more']) await one.makeList(name);
      await one.chooseList(long);
      await one.add(long, 'Short');
      await one.openDetails();
      const assertFits = async () => {
        const width = await one.page.evaluate(() => document.documentElement.scrollWidth);
        assert.equal(width, 360);
      };
      await assertFits();
      await one.row(long).locator('.text').click();
      await assertFits();
      await one.page.getByRole('button', { name: 'Cancel' }).click();
      const small = await one.page.evaluate(() =>
        [...document.querySelectorAll('button, .check, .switch, #filters span, input[type=text]')]
          .filter((element) => element.checkVisibility())
          .filter((element) => element.getBoundingClientRect().height < 44)
          .map((element) => element.outerHTML.slice(0, 120)),
      );
      assert.deepEqual(small, []);
      const dark = await one.page.evaluate(() => document.documentElement.dataset.theme);
      assert.equal(dark, colorScheme);
      await one.page.getByRole('button', { name: 'Dark' }).click();
      await one.page.reload();
      const toggled = colorScheme === 'dark' ? 'light' : 'dark';
      await one.page.locator(`html[data-theme="${toggled}"]`).waitFor();
    }));
}
