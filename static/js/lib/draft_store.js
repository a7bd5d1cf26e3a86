// Keeps drafts in the browser, one for each place of the page, so that a reload loses nothing.
// This tab's copy wins over that of other tabs. Storage may be full or forbidden: then a draft lives as long as its tab.

const PREFIX = "diptych.draft:";
const INDEX = "diptych.drafts"; // places, the oldest first
const MAX_DRAFTS = 12;

export class DraftStore {
  /** `tab` and `browser` are Storage objects (or anything like them), or null where there are none. */
  constructor(tab, browser) {
    this.tab = tab;
    this.browser = browser;
  }

  load(place) {
    return parse(read(this.tab, PREFIX + place)) ?? parse(read(this.browser, PREFIX + place));
  }

  save(place, draft) {
    const text = JSON.stringify(draft);
    write(this.tab, PREFIX + place, text, () => dropOldest(this.tab, place));
    write(this.browser, PREFIX + place, text, () => dropOldest(this.browser, place));
  }

  forget(place) {
    for (const storage of [this.tab, this.browser]) forget(storage, place);
  }
}

function read(storage, key) {
  try {
    return storage?.getItem(key) ?? null;
  } catch {
    return null;
  }
}

function parse(text) {
  try {
    const draft = JSON.parse(text);
    return draft && Array.isArray(draft.lanes) && Array.isArray(draft.messages) ? draft : null;
  } catch {
    return null;
  }
}

function write(storage, key, text, makeRoom) {
  const place = key.slice(PREFIX.length);
  for (let tries = 0; storage && tries <= MAX_DRAFTS; tries++) {
    try {
      storage.setItem(key, text);
      const places = [...listed(storage).filter((known) => known !== place), place];
      storage.setItem(INDEX, JSON.stringify(places));
      while (listed(storage).length > MAX_DRAFTS && dropOldest(storage, place));
      return;
    } catch {
      if (!makeRoom()) return;
    }
  }
}

function listed(storage) {
  try {
    const places = JSON.parse(storage.getItem(INDEX));
    return Array.isArray(places) ? places : [];
  } catch {
    return [];
  }
}

function dropOldest(storage, except) {
  const oldest = listed(storage).find((place) => place !== except);
  return oldest === undefined ? false : forget(storage, oldest);
}

function forget(storage, place) {
  try {
    storage?.removeItem(PREFIX + place);
    storage?.setItem(INDEX, JSON.stringify(listed(storage).filter((known) => known !== place)));
    return true;
  } catch {
    return false;
  }
}
