/*
 * Recovery, case by case. Stores are images (db_fixture.h) that are changed
 * byte by byte before they are opened.
 *
 *   1  the active log cut at each byte of its last records
 *   2  a damaged record that later ones vouch for is CORRUPT, with its place
 *   3  records of another log, store, place, chain or epoch are none
 *   4  PREPARE, ABORT, INGEST and SEAL as the last record
 *   5  LSNs only grow; a clean mark ends the log and is good for one opening
 *   6  edits that a dead process did not publish; an edit that was lost
 *   7  files and words that are whole and cannot be true
 *   7  records that a dead writer left behind its tail never fit again
 *
 * Covers: INV-2, INV-8, INV-9, P4, P8, P10, P11, L1, L2
 */
#include "test/c/env_record.h"

#define KEYS 60
#define LARGE 250 /* changes of a transaction that does not fit the log */

static stratakv_options options;
static skv_env *env;
static stratakv_store *store;
static stratakv_table_info table;
static uint32_t rows[KEYS], next_value;

/* ---- Opening and looking ----------------------------------------------- */

static int try_open(const fixture_image *image, bool same_boot) {
  env = fixture_world(image);
  if (same_boot) fixture_same_boot(env);
  return skv_open_in(env, FIXTURE_PATH, &options, &fixture_err, &store);
}

static bool open_image(const fixture_image *image, bool same_boot) {
  return OK(try_open(image, same_boot)) &&
         OK(stratakv_table(store, "kv", STRATAKV_KEY_TEXT, 1, &fixture_err,
                           &table));
}

static void end(void) {
  stratakv_close(store, NULL);
  skv_env_mem_free(env);
  store = NULL;
  env = NULL;
}

static void begin(int sync) {
  options = fixture_options();
  options.sync = sync;
  next_value = 0;
  memset(rows, 0, sizeof rows);
  open_image(&(fixture_image){0}, false);
}

static uint64_t put(uint32_t i, uint32_t v) {
  uint64_t lsn = 0;
  if (OK(fixture_put(store, table.id, i, v, &lsn))) rows[i] = v;
  return lsn;
}

static bool shows(const uint32_t *want) {
  uint32_t seen[KEYS];
  return OK(fixture_scan(store, table.id, seen, KEYS)) &&
         memcmp(seen, want, sizeof seen) == 0;
}

/* Whether the image can be opened and shows these rows, twice. */
static bool image_shows(const fixture_image *image, const uint32_t *want) {
  bool ok = open_image(image, false) && shows(want);
  if (ok) {
    fixture_image again = fixture_take(env);
    end();
    ok = open_image(&again, false) && shows(want);
    fixture_clear(&again);
  }
  end();
  return ok;
}

/* ---- Logs by hand ------------------------------------------------------ */

/* The newest log of an image, and its records. */
typedef struct wal {
  fixture_file *file;
  skv_wal_header header;
  skv_wal_place place; /* behind the last record */
  skv_wal_record records[200];
  unsigned count;
} wal;

static wal wal_of(fixture_image *image) {
  wal w = {0};
  for (size_t i = 0; i < image->count; i++) {
    fixture_file *f = &image->files[i];
    if (skv_name_parse(f->name).kind == SKV_NAME_WAL &&
        (w.file == NULL || strcmp(f->name, w.file->name) > 0))
      w.file = f;
  }
  OK(skv_wal_header_decode(w.file->bytes, w.file->size, w.file->name,
                           &fixture_err, &w.header));
  w.place = (skv_wal_place){skv_wal_seed(&w.header), SKV_WAL_HEADER,
                            w.header.prev, 0};
  while (w.count < 200 && skv_wal_read(w.file->bytes, w.file->size, true,
                                       &w.place, &w.records[w.count]))
    w.count++;
  return w;
}

static uint8_t last_type(fixture_image *image) {
  wal w = wal_of(image);
  return w.count > 0 ? w.records[w.count - 1].type : 0;
}

/* Put key 0 = 999 as a record at `place`. */
static void wal_forge(wal *w, skv_wal_place place, uint32_t epoch,
                      uint64_t seed) {
  char key[32], value[512];
  uint8_t *record = w->file->bytes + place.offset;
  size_t key_len = fixture_key(0, key), size = fixture_value(999, value);
  uint8_t *end_of =
      skv_entry_put(record + SKV_RECORD_HEADER, SKV_KIND_PUT, 0, table.id,
                    skv_slice_of(key, key_len), skv_slice_of(value, size));
  place.seed = seed;
  skv_wal_encode(record, SKV_RECORD_COMMIT,
                 (size_t)(end_of - record - SKV_RECORD_HEADER), 0, epoch,
                 &place);
}

/* ---- 1 ----------------------------------------------------------------- */

#define CUT_COMMITS 7
static uint32_t cut_rows[CUT_COMMITS + 1][KEYS];

static fixture_image cut_store(int sync) {
  begin(sync);
  memcpy(cut_rows[0], rows, sizeof rows);
  for (uint32_t i = 0; i < CUT_COMMITS; i++) {
    put(i % 4, i == 4 ? 0 : 70 + i); /* the fifth deletes */
    memcpy(cut_rows[i + 1], rows, sizeof rows);
  }
  fixture_image image = fixture_take(env);
  end();
  return image;
}

/* Records that zeros from `at` on leave as they are. */
static unsigned cut_left(const wal *w, uint64_t at) {
  unsigned n = 0;
  while (n < w->count) {
    const skv_wal_record *r = &w->records[n];
    for (uint64_t i = at > r->offset ? at : r->offset; i < r->end; i++)
      if (w->file->bytes[i] != 0) return n;
    n++;
  }
  return n;
}

static void test_cut(void) {
  fixture_image image = cut_store(STRATAKV_SYNC_FULL);
  wal w = wal_of(&image);
  CHECK(w.count == CUT_COMMITS);
  uint64_t from = w.records[w.count - 4].offset;
  for (uint64_t at = from; at <= w.place.offset; at++) {
    fixture_image cut = fixture_copy(&image);
    wal c = wal_of(&cut);
    unsigned left = cut_left(&w, at);
    memset(c.file->bytes + at, 0, c.file->size - at);
    CHECK(image_shows(&cut, cut_rows[left]));
    /* This boot's page says what was synced. */
    int rc = try_open(&cut, true);
    CHECK(rc == (left == CUT_COMMITS ? STRATAKV_OK : STRATAKV_CORRUPT));
    end();
    fixture_clear(&cut);
  }
  fixture_clear(&image);
}

/* ---- 2 ----------------------------------------------------------------- */

static void test_damage_before(void) {
  for (int sync = STRATAKV_SYNC_FULL; sync <= STRATAKV_SYNC_OFF; sync += 2) {
    fixture_image image = cut_store(sync);
    wal w = wal_of(&image);
    for (unsigned n = 0; n < w.count; n++) {
      for (uint64_t at = w.records[n].offset; at < w.records[n].end; at += 5) {
        char want[64];
        fixture_image bad = fixture_copy(&image);
        wal b = wal_of(&bad);
        b.file->bytes[at] ^= 0x40;
        snprintf(want, sizeof want, "%s", w.file->name);
        if (sync == STRATAKV_SYNC_FULL && n + 1 < w.count) {
          int rc = try_open(&bad, false);
          char offset[32];
          snprintf(offset, sizeof offset, "%u", (unsigned)w.records[n].offset);
          CHECK(rc == STRATAKV_CORRUPT);
          CHECK(strstr(fixture_err.message, want) != NULL);
          CHECK(strstr(fixture_err.message, offset) != NULL);
          end();
        } else { /* nothing vouches for it */
          CHECK(image_shows(&bad, cut_rows[n]));
        }
        fixture_clear(&bad);
      }
    }
    fixture_clear(&image);
  }
}

/* ---- 3 ----------------------------------------------------------------- */

static void test_forged(void) {
  fixture_image image = cut_store(STRATAKV_SYNC_FULL);
  wal w = wal_of(&image);
  uint32_t *before = cut_rows[CUT_COMMITS], after[KEYS];
  memcpy(after, before, sizeof after);
  after[0] = 999;
  uint32_t epoch = w.place.epoch;
  skv_wal_header other = w.header;
  other.store_id[3] ^= 1;
  skv_wal_header older = w.header;
  older.number--;
  skv_wal_header place = w.header;
  place.start += 64;
  skv_wal_place chain = w.place, here = w.place;
  chain.prev ^= 1;
  struct {
    skv_wal_place place;
    uint32_t epoch;
    uint64_t seed;
    bool is_valid;
  } cases[] = {
      {here, epoch, here.seed, true},
      {here, epoch + 5, here.seed, true},
      {here, epoch - 1, here.seed, false},
      {here, epoch, skv_wal_seed(&other), false},
      {here, epoch, skv_wal_seed(&older), false},
      {here, epoch, skv_wal_seed(&place), false},
      {here, epoch, here.seed + 8, false},
      {chain, epoch, here.seed, false},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    fixture_image forged = fixture_copy(&image);
    wal f = wal_of(&forged);
    wal_forge(&f, cases[i].place, cases[i].epoch, cases[i].seed);
    CHECK(image_shows(&forged, cases[i].is_valid ? after : before));
    fixture_clear(&forged);
  }
  fixture_clear(&image);
}

/* Logs that were really recycled: what they held before never shows. */
static void test_recycled(void) {
  begin(STRATAKV_SYNC_OFF);
  options.compression = STRATAKV_COMPRESSION_NONE;
  unsigned stale = 0;
  for (uint32_t n = 0; n < 6000; n++) {
    put(n % KEYS, n % 5 == 4 ? 0 : n + 1);
    if (n % 97 != 0) continue;
    fixture_image image = fixture_take(env);
    wal w = wal_of(&image);
    for (uint64_t at = w.place.offset; at < w.file->size; at++)
      if (w.file->bytes[at] != 0) {
        stale++;
        break;
      }
    stratakv_store *live = store;
    skv_env *live_env = env;
    CHECK(image_shows(&image, rows));
    store = live;
    env = live_env;
    fixture_clear(&image);
  }
  end();
  CHECK(stale > 10);
}

/* ---- 4 ----------------------------------------------------------------- */

#define MOMENTS 100
static fixture_image moments[MOMENTS];
static unsigned moment_count;

static void moment_take(recording *r) {
  SKV_UNUSED(r);
  if (moment_count < MOMENTS) moments[moment_count++] = fixture_take(env);
}

static void moments_clear(void) {
  while (moment_count > 0) fixture_clear(&moments[--moment_count]);
}

static stratakv_txn *txn_of(uint32_t changes, uint32_t *after) {
  stratakv_txn *txn = NULL;
  memcpy(after, rows, sizeof rows);
  OK(stratakv_begin(store, &fixture_err, &txn));
  for (uint32_t n = 0; n < changes; n++) {
    uint32_t i = n * 7 % KEYS, v = ++next_value + 1000;
    OK(fixture_txn_put(txn, table.id, i, v));
    after[i] = v;
  }
  return txn;
}

static void test_prepare(uint32_t changes, uint8_t type) {
  uint32_t after[KEYS];
  begin(STRATAKV_SYNC_FULL);
  for (uint32_t i = 0; i < 20; i++) put(i, 100 + i);
  stratakv_txn *txn = txn_of(changes, after);
  OK(stratakv_prepare(txn, &fixture_err));
  fixture_image prepared = fixture_take(env);
  stratakv_rollback(txn);
  fixture_image aborted = fixture_take(env);
  CHECK(last_type(&prepared) == type);
  CHECK(last_type(&aborted) == SKV_RECORD_ABORT);
  stratakv_store *live = store;
  skv_env *live_env = env;
  CHECK(image_shows(&prepared, after));
  CHECK(image_shows(&aborted, rows));
  store = live;
  env = live_env;
  put(1, 5);
  CHECK(shows(rows));
  end();
  fixture_clear(&prepared);
  fixture_clear(&aborted);
}

static void drop_unnamed(fixture_image *image) {
  for (size_t i = 0; i < image->count;) {
    if (strstr(image->files[i].name, ".tmp") == NULL) {
      i++;
      continue;
    }
    free(image->files[i].bytes);
    image->files[i] = image->files[--image->count];
  }
}

/* From the INGEST record on the transaction is committed; without its files
 * it never was, and the store is whole all the same. */
static void test_ingest(void) {
  uint32_t after[KEYS];
  begin(STRATAKV_SYNC_FULL);
  for (uint32_t i = 0; i < 20; i++) put(i, 100 + i);
  stratakv_txn *txn = txn_of(LARGE, after);
  recording *r = record_begin(env, moment_take);
  OK(stratakv_commit(txn, &fixture_err, NULL));
  record_detach(r, env);
  record_free(r);
  stratakv_store *live = store;
  skv_env *live_env = env;
  unsigned pending = 0;
  for (unsigned m = 0; m < moment_count; m++) {
    uint8_t last = last_type(&moments[m]);
    if (last != SKV_RECORD_INGEST && last != SKV_RECORD_SEAL) continue;
    CHECK(image_shows(&moments[m], after));
    bool named = false;
    for (size_t i = 0; i < moments[m].count; i++)
      named |= strstr(moments[m].files[i].name, ".seg") != NULL;
    if (named) continue;
    pending++;
    drop_unnamed(&moments[m]);
    CHECK(image_shows(&moments[m], rows));
    uint64_t lsn = 0;
    CHECK(open_image(&moments[m], false));
    OK(fixture_put(store, table.id, 3, 8, &lsn));
    wal w = wal_of(&moments[m]);
    CHECK(lsn >= skv_wal_lsn(w.header.start, w.file->size)); /* P10 */
    end();
  }
  CHECK(pending >= 1);
  moments_clear();
  store = live;
  env = live_env;
  memcpy(rows, after, sizeof rows);
  CHECK(shows(rows));
  end();
}

static void test_seal(void) {
  begin(STRATAKV_SYNC_FULL);
  for (uint32_t i = 0; i < 20; i++) put(i, 100 + i);
  recording *r = record_begin(env, moment_take);
  OK(stratakv_flush(store, &fixture_err));
  record_detach(r, env);
  record_free(r);
  end();
  unsigned sealed = 0;
  for (unsigned m = 0; m < moment_count; m++) {
    sealed += last_type(&moments[m]) == SKV_RECORD_SEAL;
    CHECK(image_shows(&moments[m], rows));
  }
  CHECK(sealed >= 1);
  moments_clear();
}

/* ---- 5 ----------------------------------------------------------------- */

static void test_lsn(void) {
  uint64_t last = 0;
  begin(STRATAKV_SYNC_FULL);
  for (uint32_t round = 0; round < 12; round++) {
    for (uint32_t i = 0; i < 3; i++) {
      uint64_t lsn = put(i + round, 10 * round + i + 1);
      CHECK(lsn > last);
      last = lsn;
    }
    fixture_image image = fixture_take(env);
    wal w = wal_of(&image);
    uint64_t possible = skv_wal_lsn(w.header.start, w.file->size);
    if (round % 3 == 2) { /* closed cleanly: goes on where it was */
      OK(stratakv_close(store, &fixture_err));
      store = NULL;
      fixture_clear(&image);
      image = fixture_take(env);
      possible = last + 1;
    }
    end();
    CHECK(open_image(&image, round % 2));
    CHECK(store->db->state->version->clean == 0);
    CHECK(store->db->place.offset == SKV_WAL_HEADER || round % 3 == 2);
    CHECK(shows(rows));
    last = possible - 1;
    fixture_clear(&image);
  }
  end();
}

/* A clean store goes on in its newest log, or turns to the next. */
static bool goes_on(const fixture_image *image, uint64_t number) {
  bool ok = open_image(image, false) && store->db->active->number == number;
  end();
  return ok;
}

/* What stands behind a clean end was never committed, then or later. */
static void test_behind_clean(void) {
  begin(STRATAKV_SYNC_FULL);
  for (uint32_t i = 1; i < 20; i++) put(i, 100 + i);
  OK(stratakv_close(store, &fixture_err));
  store = NULL;
  fixture_image image = fixture_take(env);
  end();
  wal w = wal_of(&image);
  CHECK(goes_on(&image, w.header.number));
  wal_forge(&w, w.place, w.place.epoch, w.place.seed);
  CHECK(image_shows(&image, rows));
  CHECK(image_shows(&image, rows));
  CHECK(goes_on(&image, w.header.number + 1));
  /* What is no record, however like one, is written over. */
  w.file->bytes[w.place.offset + SKV_RECORD_HEADER + 12] ^= 1;
  CHECK(goes_on(&image, w.header.number));
  CHECK(image_shows(&image, rows));
  /* And damage below it is damage, whatever the page says. */
  w = wal_of(&image);
  w.file->bytes[w.records[w.count - 2].offset + 40] ^= 1;
  FAILS(STRATAKV_CORRUPT, try_open(&image, false));
  end();
  fixture_clear(&image);
}

/* ---- 6 ----------------------------------------------------------------- */

/* A process flushes and dies before it publishes its last edit. */
static void test_unpublished(void) {
  stratakv_store *other;
  begin(STRATAKV_SYNC_FULL);
  for (uint32_t i = 0; i < 30; i++) put(i, 200 + i);
  skv_env *second = skv_env_mem_process(env);
  OK(skv_open_in(second, FIXTURE_PATH, &options, &fixture_err, &other));
  skv_shared *page = store->db->shared;
  OK(stratakv_flush(store, &fixture_err)); /* a rotation and a flush */
  put(31, 7);
  fixture_scan(store, table.id, rows, KEYS);
  uint64_t head = skv_load(&page->head), retired = skv_load(&page->retired_wal);
  OK(stratakv_flush(other, &fixture_err));
  stratakv_close(other, NULL);
  skv_env_mem_free(second);
  CHECK(skv_load(&page->head) > head);
  skv_store_word(&page->head, head);
  skv_store_word(&page->retired_wal, retired);
  skv_store_word(&page->owner, 2); /* it died with WRITE */
  OK(skv_gc(store->db, &fixture_err));
  CHECK(shows(rows));
  put(32, 8);
  OK(stratakv_flush(store, &fixture_err));
  OK(stratakv_compact(store, NULL, NULL, &fixture_err));
  CHECK(shows(rows));
  OK(stratakv_close(store, &fixture_err));
  store = NULL;
  fixture_image image = fixture_take(env);
  end();
  CHECK(image_shows(&image, rows));
  fixture_clear(&image);
}

/* The manifest's last edit named the log in which the last commits stand. */
static void test_lost_edit(void) {
  begin(STRATAKV_SYNC_FULL);
  for (uint32_t i = 0; i < 30; i++) put(i, 200 + i);
  fixture_image before = fixture_take(env);
  skv_err err;
  OK(skv_lead_begin(store->db, 1000, &err));
  OK(skv_write_acquire(store->db, UINT64_MAX, 0, &err));
  OK(skv_rotate(store->db, 0, NULL, NULL, &err));
  skv_lead_end(store->db);
  put(31, 7);
  fixture_image image = fixture_take(env);
  end();
  fixture_file *now = fixture_find(&image, "000001.manifest");
  fixture_file *old = fixture_find(&before, "000001.manifest");
  if (CHECK(now != NULL && old != NULL && now->size > old->size)) {
    now->bytes[old->size + 30] ^= 1; /* the rotation's edit */
    for (int same_boot = 0; same_boot < 2; same_boot++) {
      FAILS(STRATAKV_CORRUPT, try_open(&image, same_boot));
      CHECK(strstr(fixture_err.message, "000001.manifest") != NULL);
      end();
    }
  }
  fixture_clear(&before);
  fixture_clear(&image);
}

/* ---- 7 ----------------------------------------------------------------- */

/* Rows 2 and 3 as two commits of one group. */
static void put_group(void) {
  stratakv_batch *batches[2];
  stratakv_result results[2] = {{0}};
  for (uint32_t i = 0; i < 2; i++) {
    char key[32], value[512];
    size_t key_len = fixture_key(2 + i, key);
    batches[i] = stratakv_batch_new();
    stratakv_batch_put(batches[i], table.id, key, key_len, value,
                       fixture_value(20 + i, value));
  }
  OK(stratakv_write(store, batches, 2, &fixture_err, results));
  for (uint32_t i = 0; i < 2; i++) stratakv_batch_free(batches[i]);
}

/* The page as it was before the writer in slot 0 published what it wrote. */
static void unpublish(fixture_image *image, uint64_t tail) {
  uint8_t *page = fixture_find(image, "SHARED")->bytes;
  skv_put64(page + offsetof(skv_shared, tail), tail);
  skv_put64(page + offsetof(skv_shared, durable), tail);
  skv_put64(page + offsetof(skv_shared, visible), tail);
  skv_put32(page + offsetof(skv_shared, owner), 1);
}

/* A dead writer left two whole records at the tail. Who goes on beside somebody
 * who lives writes the first of them again, byte for byte but for its epoch,
 * and dies: the second one, which nobody was told of, is not its successor. */
static void test_left_behind(void) {
  skv_dir *dir = NULL;
  skv_file *lock = NULL;
  begin(STRATAKV_SYNC_FULL);
  put(1, 10);
  uint64_t tail = skv_load(&store->db->shared->tail);
  put_group();
  uint32_t epoch = skv_load(&store->db->shared->epoch);
  fixture_image image = fixture_take(env), again;
  end();
  unpublish(&image, tail);
  skv_env *first = fixture_world(&image);
  fixture_same_boot(first);
  OK(first->dir_open(first, NULL, FIXTURE_PATH, 0, NULL, &dir));
  OK(first->file_open(dir, "LOCK", SKV_FILE_WRITE, NULL, &lock));
  OK(first->file_lock(lock, SKV_LOCK_ALIVE, 1, SKV_SHARED, NULL));
  env = skv_env_mem_process(first);
  OK(skv_open_in(env, FIXTURE_PATH, &options, &fixture_err, &store));
  CHECK(skv_load(&store->db->shared->epoch) > epoch);
  CHECK(shows(rows));
  put(2, 20);
  CHECK(shows(rows));
  again = fixture_take(env);
  end();
  first->file_close(lock);
  first->dir_close(dir);
  skv_env_mem_free(first);
  CHECK(image_shows(&again, rows));
  fixture_clear(&again);
  fixture_clear(&image);
}

/* ---- 7 ----------------------------------------------------------------- */

/* A log of these fields, with a record or without. */
static void add_log(fixture_image *image, const char *name,
                    const skv_wal_header *header, bool with_record) {
  uint8_t bytes[4096] = {0};
  skv_wal_place place = {skv_wal_seed(header), SKV_WAL_HEADER, header->prev, 0};
  skv_wal_header_encode(header, bytes);
  if (with_record)
    skv_wal_encode(bytes + SKV_WAL_HEADER, SKV_RECORD_COMMIT, 0, 0, 1, &place);
  fixture_add(image, name, bytes, sizeof bytes);
}

/* Of logs that the manifest does not name, only one of this store that holds a
 * record says that something was lost. */
static void test_unknown_logs(void) {
  fixture_image image = cut_store(STRATAKV_SYNC_FULL);
  wal w = wal_of(&image);
  skv_wal_header ours = w.header, other = w.header;
  ours.number = 99;
  other.number = 99;
  other.store_id[0] ^= 1;
  for (int i = 0; i < 6; i++) {
    fixture_image more = fixture_copy(&image);
    switch (i) {
    case 0: fixture_add(&more, "000099.wal", NULL, 4096); break;
    case 1: add_log(&more, "000098.wal", &ours, true); break;
    case 2: add_log(&more, "000099.wal", &other, true); break;
    case 3: add_log(&more, "000099.wal", &ours, false); break;
    case 4:
      add_log(&more, "000099.wal", &ours, true);
      more.files[more.count - 1].bytes[SKV_WAL_HEADER] ^= 1;
      break;
    case 5: add_log(&more, "000099.wal", &ours, true); break;
    }
    if (i < 5) {
      CHECK(image_shows(&more, cut_rows[CUT_COMMITS]));
    } else {
      FAILS(STRATAKV_CORRUPT, try_open(&more, false));
      CHECK(strstr(fixture_err.message, "000099.wal") != NULL);
      end();
    }
    fixture_clear(&more);
  }
  fixture_clear(&image);
}

/* A log that is another one than its name, or the manifest, says. */
static void test_other_log(void) {
  fixture_image image = cut_store(STRATAKV_SYNC_FULL);
  for (int i = 0; i < 5; i++) {
    fixture_image bad = fixture_copy(&image);
    wal w = wal_of(&bad);
    switch (i) {
    case 0: w.header.number++; break;
    case 1: w.header.start += 8; break;
    case 2: w.header.store_id[0] ^= 1; break;
    case 3: w.file->size -= 4096; break;
    }
    skv_wal_header_encode(&w.header, w.file->bytes);
    if (i == 4) w.file->bytes[20] ^= 1;
    FAILS(STRATAKV_CORRUPT, try_open(&bad, false));
    CHECK(strstr(fixture_err.message, i < 4 ? "header is of another log"
                                            : "checksum mismatch") != NULL);
    end();
    fixture_clear(&bad);
  }
  fixture_clear(&image);
}

/* What a page of this boot says of the newest log, and cannot be, is not
 * taken for what it must hold. */
static void test_page_beyond(void) {
  fixture_image image = cut_store(STRATAKV_SYNC_FULL);
  fixture_file *file = fixture_find(&image, "SHARED");
  skv_shared *page = (skv_shared *)(void *)file->bytes;
  skv_store_word(&page->tail, UINT64_C(1) << 40);
  skv_store_word(&page->durable, UINT64_C(1) << 40);
  CHECK(open_image(&image, true) && shows(cut_rows[CUT_COMMITS]));
  end();
  fixture_clear(&image);
}

/* A page of this boot that names a head beyond the manifest, or a newer
 * manifest: something is lost, unless the store was closed cleanly. */
static void test_page_head(void) {
  const skv_head_pos heads[] = {skv_head_at(1, 1 << 20), skv_head_at(5, 64)};
  for (int is_clean = 0; is_clean < 2; is_clean++) {
    begin(STRATAKV_SYNC_FULL);
    put(1, 7);
    if (is_clean) {
      OK(stratakv_close(store, &fixture_err));
      store = NULL;
    }
    fixture_image image = fixture_take(env);
    end();
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
      fixture_image bad = fixture_copy(&image);
      skv_shared *page =
          (skv_shared *)(void *)fixture_find(&bad, "SHARED")->bytes;
      skv_store_word(&page->head, heads[i]);
      if (is_clean)
        CHECK(open_image(&bad, true) && shows(rows));
      else
        FAILS(STRATAKV_CORRUPT, try_open(&bad, true));
      end();
      fixture_clear(&bad);
    }
    fixture_clear(&image);
  }
}

/* Incarnations go on behind those in names; one that is too large is none. */
static void test_incarnations(void) {
  static const struct {
    const char *name;
    uint32_t next;
  } cases[] = {{"03-00000051-000006.tmp", 0x51 + 2},
               {"03-90000000-000006.tmp", 0}};
  for (size_t i = 0; i < 2; i++) {
    fixture_image image = cut_store(STRATAKV_SYNC_FULL);
    fixture_add(&image, cases[i].name, "x", 1);
    CHECK(open_image(&image, false));
    uint32_t next = skv_load(&store->db->shared->next_incarnation);
    CHECK(cases[i].next != 0 ? next == cases[i].next : next < 0x1000);
    end();
    fixture_clear(&image);
  }
}

/* A manifest that is valid and names no log. */
static void test_no_log(void) {
  fixture_image image = cut_store(STRATAKV_SYNC_FULL);
  fixture_file *file = fixture_find(&image, "000001.manifest");
  skv_buf edit = {0}, bytes = {0};
  skv_manifest_end last;
  skv_edit_next(&edit, 90);
  skv_manifest_encode(wal_of(&image).header.store_id, 1, skv_buf_bytes(&edit),
                      &bytes, &last);
  free(file->bytes);
  file->bytes = fixture_alloc(bytes.size);
  file->size = bytes.size;
  memcpy(file->bytes, bytes.data, bytes.size);
  FAILS(STRATAKV_CORRUPT, try_open(&image, false));
  CHECK(strstr(fixture_err.message, "names no log") != NULL);
  end();
  skv_buf_clear(&edit);
  skv_buf_clear(&bytes);
  fixture_clear(&image);
}

/* Nobody asks why: the codes are the same. */
static void test_no_message(void) {
  fixture_image image = cut_store(STRATAKV_SYNC_FULL);
  fixture_find(&image, "000001.manifest")->name[0] = 'x';
  env = fixture_world(&image);
  CHECK(skv_open_in(env, FIXTURE_PATH, &options, NULL, &store) ==
        STRATAKV_CORRUPT);
  end();
  fixture_clear(&image);
}

/* The last record ends where no other one can begin. */
static void test_full_log(void) {
  static uint8_t payload[1 << 17];
  fixture_image image = cut_store(STRATAKV_SYNC_FULL);
  wal w = wal_of(&image);
  size_t room = (size_t)(w.file->size - w.place.offset) - 8;
  size_t key_len, size = room;
  char key[32];
  key_len = fixture_key(1000, key);
  while (skv_record_space(skv_entry_size(0, key_len + SKV_TABLE_PREFIX, size)) >
         room)
    size--;
  uint8_t *record = w.file->bytes + w.place.offset;
  uint8_t *last =
      skv_entry_put(record + SKV_RECORD_HEADER, SKV_KIND_PUT, 0, table.id,
                    skv_slice_of(key, key_len), skv_slice_of(payload, size));
  skv_wal_encode(record, SKV_RECORD_COMMIT,
                 (size_t)(last - record - SKV_RECORD_HEADER), 0, w.place.epoch,
                 &w.place);
  CHECK(w.file->size - w.place.offset < SKV_RECORD_HEADER);
  for (int same_boot = 0; same_boot < 2; same_boot++) {
    CHECK(open_image(&image, same_boot));
    stratakv_value value = {0};
    OK(stratakv_get(store, NULL, table.id, key, key_len, &fixture_err, &value));
    CHECK(value.size == size);
    stratakv_value_clear(&value);
    CHECK(store->db->counters.torn_tails == 0);
    put(1, 5);
    end();
  }
  fixture_clear(&image);
}

int main(void) {
  test_cut();
  test_damage_before();
  test_forged();
  test_recycled();
  test_prepare(5, SKV_RECORD_PREPARE);
  test_prepare(LARGE, SKV_RECORD_INGEST);
  test_ingest();
  test_seal();
  test_lsn();
  test_behind_clean();
  test_unpublished();
  test_lost_edit();
  test_unknown_logs();
  test_other_log();
  test_page_beyond();
  test_page_head();
  test_incarnations();
  test_no_log();
  test_no_message();
  test_full_log();
  test_left_behind();
  return check_end();
}
