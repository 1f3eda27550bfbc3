import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { closeBrowser, withSetting } from './support/browser.js';
import { picture } from './support/images.js';

after(closeBrowser);

test('to-dos are added, edited, completed, filtered, moved, deleted and brought back', () =>
  withSetting(async (setting) => {
    const one = await setting.device();
    const other = await setting.device();
    await one.add('Milk', 'Bread', 'Eggs');
    await other.lists('Milk', 'Bread', 'Eggs');

    await other.edit('Bread', { to: 'Rye bread', note: 'the dark one' });
    await one.row('Rye bread').getByText('the dark one').waitFor();

    await one.check('Milk');
    await other.page.locator('.todo.done', { hasText: 'Milk' }).waitFor();
    await one.page.getByText('Open 2').click();
    await one.lists('Rye bread', 'Eggs');
    await one.page.getByText('Done 1').click();
    await one.lists('Milk');
    await one.page.getByText('All 3').click();

    const before = await one.leaves('list-first');
    await one.row('Eggs').getByRole('button', { name: /^Move/ }).dragTo(one.row('Milk'), { targetPosition: { x: 20, y: 2 } });
    await one.lists('Eggs', 'Milk', 'Rye bread');
    await other.lists('Eggs', 'Milk', 'Rye bread');
    const after = await one.leaves('list-first');
    const changed = after.filter(({ _rev }) => !before.some((doc) => doc._rev === _rev));
    assert.deepEqual(changed.map(({ title }) => title), ['Eggs']);

    await one.remove('Milk');
    await other.lists('Eggs', 'Rye bread');
    await one.page.getByRole('button', { name: 'Undo' }).click();
    await other.lists('Eggs', 'Milk', 'Rye bread');
    assert.equal(await other.row('Milk').getByRole('checkbox').isChecked(), true);
  }));

test('an image travels byte for byte, and survives its to-do being deleted and brought back', () =>
  withSetting(async (setting) => {
    const one = await setting.device();
    const other = await setting.device();
    const image = picture('plant.png', [40, 140, 90]);
    await one.add('Water this');
    await one.edit('Water this', { image });
    await other.row('Water this').locator('img.thumbnail').waitFor();
    const bytesThere = () =>
      other.page.evaluate(async () => {
        const { default: PouchDB } = await import('/vendor/pouchdb.js');
        const db = new PouchDB('list-first');
        const { rows } = await db.allDocs();
        const blob = await db.getAttachment(rows[0].id, 'image');
        return { type: blob.type, bytes: [...new Uint8Array(await blob.arrayBuffer())] };
      });
    assert.deepEqual(await bytesThere(), { type: 'image/png', bytes: [...image.buffer] });
    await other.waits(() => document.querySelector('img.thumbnail')?.naturalWidth === 96);

    await one.remove('Water this');
    await other.lists();
    await one.page.getByRole('button', { name: 'Undo' }).click();
    await other.row('Water this').locator('img.thumbnail').waitFor();
    assert.deepEqual((await bytesThere()).bytes, [...image.buffer]);

    await other.row('Water this').getByRole('button', { name: 'Show the image' }).click();
    await other.page.locator('#picture[open] img.large').waitFor();
  }));

test('an image is pasted, replaced and removed; what is no image is refused', () =>
  withSetting(async (setting) => {
    const one = await setting.device();
    await one.add('Look');
    const paste = (type) =>
      one.page.locator('.editor').evaluate((form, mime) => {
        const clipboardData = new DataTransfer();
        const svg = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>';
        clipboardData.items.add(new File([svg], 'pasted', { type: mime }));
        form.dispatchEvent(new ClipboardEvent('paste', { clipboardData, bubbles: true }));
      }, type);
    await one.row('Look').locator('.text').click();
    await paste('text/plain');
    await one.page.getByText('That is not an image.').waitFor();
    await paste('image/svg+xml');
    await one.page.locator('.editor .preview').waitFor();
    await one.page.getByRole('button', { name: 'Save' }).click();
    await one.waits(() => document.querySelector('img.thumbnail')?.naturalWidth === 9);
    await one.edit('Look', { image: picture('other.png', [1, 2, 3], 12) });
    await one.waits(() => document.querySelector('img.thumbnail')?.naturalWidth === 12);
    await one.row('Look').locator('.text').click();
    await one.page.getByRole('button', { name: 'Remove it' }).click();
    await one.page.getByRole('button', { name: 'Save' }).click();
    await one.page.locator('img.thumbnail').waitFor({ state: 'detached' });
    const [doc] = await one.leaves('list-first');
    assert.equal(doc._attachments, undefined);
  }));

test('what somebody typed is shown as they typed it', () =>
  withSetting(async (setting) => {
    const one = await setting.device();
    const other = await setting.device();
    const hostile = '<img src=x onerror="document.title=1"><script>document.title=2</script>';
    await one.add(hostile);
    await one.edit(hostile, { note: '<b>bold</b>' });
    await one.makeList('<i>list</i>');
    await other.lists(hostile);
    await other.page.locator('#lists .name', { hasText: '<i>list</i>' }).waitFor();
    await other.row(hostile).getByText('<b>bold</b>').waitFor();
    assert.equal(await other.page.locator('#todos script, #todos img, #todos b, #lists i').count(), 0);
    assert.equal(await other.page.title(), 'To-dos, offline first');
  }));

test('an edit that was overtaken is not saved over what nobody has seen', () =>
  withSetting(async (setting) => {
    const one = await setting.device();
    const other = await setting.device();
    await one.add('Call');
    await other.lists('Call');
    await one.row('Call').locator('.text').click();
    await one.page.locator('.editor').getByLabel('To-do').fill('Call Ann');
    await other.edit('Call', { to: 'Call Bob' });
    // What comes later says that the edit is here too.
    await other.add('later');
    await one.row('later').waitFor();
    await one.page.getByRole('button', { name: 'Save' }).click();
    await one.page.getByText('Save again to replace that').waitFor();
    await one.page.getByRole('button', { name: 'Save' }).click();
    await other.lists('Call Ann', 'later');
    assert.equal((await other.leaves('list-first')).length, 2);
  }));
