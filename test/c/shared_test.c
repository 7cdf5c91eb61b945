/*
 * A shared page with words that cannot be, while another process has the store
 * open.
 *
 *   head of 0      who joins is refused
 *   sunken tail    of a dead owner: nobody erases what was committed
 *   absurd owner   is dead, and no other byte of LOCK is touched to find out
 *   ingest         no INGEST stands there: CORRUPT
 *   visible        outside the log: nothing is read; below it: all that the
 *                  head says was decided
 *   left behind    by who died: a read-only opening asks for what they vouch
 *                  for as well
 */
#include "test/c/db_fixture.h"

#define KEYS 3

static stratakv_options options;
static stratakv_table_info table;

static stratakv_store *open_filled(skv_env *env) {
  stratakv_store *store = NULL;
  options = fixture_options();
  OK(skv_open_in(env, FIXTURE_PATH, &options, &fixture_err, &store));
  OK(stratakv_table(store, "kv", STRATAKV_KEY_TEXT, 1, &fixture_err, &table));
  for (uint32_t i = 0; i < KEYS; i++)
    OK(fixture_put(store, table.id, i, i + 1, NULL));
  return store;
}

/* What a reboot shows holds every row. */
static void check_rows(skv_env *env) {
  fixture_image image = fixture_take(env);
  skv_env *after = fixture_world(&image);
  stratakv_store *store = NULL;
  uint32_t rows[KEYS];
  OK(skv_open_in(after, FIXTURE_PATH, &options, &fixture_err, &store));
  OK(fixture_scan(store, table.id, rows, KEYS));
  for (uint32_t i = 0; i < KEYS; i++) CHECK(rows[i] == i + 1);
  OK(stratakv_close(store, &fixture_err));
  skv_env_mem_free(after);
  fixture_clear(&image);
}

static void test_head(void) {
  skv_env *env = fixture_world(&(fixture_image){0});
  stratakv_store *first = open_filled(env), *second = NULL;
  skv_env *other = skv_env_mem_process(env);
  skv_store_word(&first->db->shared->head, 0);
  FAILS(STRATAKV_CORRUPT,
        skv_open_in(other, FIXTURE_PATH, &options, &fixture_err, &second));
  skv_env_mem_free(other);
  check_rows(env);
  stratakv_close(first, NULL);
  skv_env_mem_free(env);
}

static void test_tail(void) {
  skv_env *env = fixture_world(&(fixture_image){0});
  stratakv_store *first = open_filled(env), *second = NULL;
  skv_env *other = skv_env_mem_process(env);
  skv_shared *shared = first->db->shared;
  skv_wal_record record;
  skv_memlog *log = first->db->active;
  skv_wal_place place = {skv_wal_seed(&log->header), SKV_WAL_HEADER,
                         log->header.prev, 0};
  CHECK(skv_wal_read(skv_log_bytes(log->log), skv_log_size(log->log), true,
                     &place, &record));
  skv_store_word(&shared->tail, skv_wal_lsn(log->start, place.offset));
  skv_store_word(&shared->owner, 60); /* a slot that nobody has */
  int rc = skv_open_in(other, FIXTURE_PATH, &options, &fixture_err, &second);
  if (rc == STRATAKV_OK)
    FAILS(STRATAKV_CORRUPT, fixture_put(second, table.id, 1, 9, NULL));
  stratakv_close(second, NULL);
  skv_env_mem_free(other);
  check_rows(env);
  stratakv_close(first, NULL);
  skv_env_mem_free(env);
}

static void test_owner(void) {
  skv_env *env = fixture_world(&(fixture_image){0});
  stratakv_store *first = open_filled(env), *second = NULL;
  skv_env *other = skv_env_mem_process(env);
  OK(skv_open_in(other, FIXTURE_PATH, &options, &fixture_err, &second));
  skv_db *db = first->db;
  OK(skv_store_lock(db->store, SKV_LOCK_ATTACH, SKV_EXCLUSIVE, &fixture_err));
  /* Its byte would be ATTACH's, modulo 2^32. */
  CHECK(!skv_slot_alive(db, 0u - SKV_LOCK_SLOT + SKV_LOCK_ATTACH));
  FAILS(STRATAKV_BUSY, skv_store_lock(second->db->store, SKV_LOCK_ATTACH,
                                      SKV_EXCLUSIVE, &fixture_err));
  OK(skv_store_lock(db->store, SKV_LOCK_ATTACH, SKV_UNLOCK, &fixture_err));
  OK(stratakv_close(second, &fixture_err));
  skv_env_mem_free(other);
  OK(stratakv_close(first, &fixture_err));
  skv_env_mem_free(env);
}

static int read_one(stratakv_store *store, uint32_t want) {
  stratakv_value value = {0};
  char key[32];
  size_t n = fixture_key(1, key);
  int rc = stratakv_get(store, NULL, table.id, key, n, &fixture_err, &value);
  if (rc == STRATAKV_OK) CHECK(fixture_number(value.data, value.size) == want);
  stratakv_value_clear(&value);
  return rc;
}

static void test_visible(void) {
  skv_env *env = fixture_world(&(fixture_image){0});
  stratakv_store *store = open_filled(env);
  skv_shared *shared = store->db->shared;
  const skv_memlog *log = store->db->active;
  uint64_t visible = skv_load(&shared->visible);
  uint64_t end = skv_wal_lsn(log->start, skv_log_size(log->log));
  const uint64_t wrong[] = {visible + 4, end + 8, end + 4096, UINT64_MAX - 7};
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    skv_store_word(&shared->visible, wrong[i]);
    FAILS(STRATAKV_CORRUPT, read_one(store, 2));
    CHECK(strstr(fixture_err.message, "SHARED: visible LSN") != NULL);
  }
  skv_store_word(&shared->visible, visible);
  OK(read_one(store, 2));
  const uint64_t no_ingest[] = {log->start, log->start + 4, visible - 8};
  for (size_t i = 0; i < sizeof no_ingest / sizeof *no_ingest; i++) {
    skv_store_word(&shared->ingest, no_ingest[i]);
    int rc = read_one(store, 2);
    bool is_none = rc == STRATAKV_OK && no_ingest[i] == 0;
    if (!is_none) FAILS(STRATAKV_CORRUPT, rc);
    if (!is_none) CHECK(strstr(fixture_err.message, "SHARED: LSN") != NULL);
  }
  skv_store_word(&shared->ingest, 0);
  OK(read_one(store, 2));
  OK(stratakv_flush(store, &fixture_err));
  skv_store_word(&shared->visible, 0);
  OK(read_one(store, 2));
  OK(stratakv_close(store, &fixture_err));
  skv_env_mem_free(env);
}

/* Open the files that a death left, with one word of the page moved. */
static void try_left_behind(const fixture_image *image, size_t word,
                            uint64_t more, bool same_boot, int want) {
  fixture_image copy = fixture_copy(image);
  fixture_file *page = fixture_find(&copy, "SHARED");
  skv_put64(page->bytes + word, skv_get64(page->bytes + word) + more);
  skv_env *env = fixture_world(&copy);
  if (same_boot) fixture_same_boot(env);
  stratakv_store *store = NULL;
  options.read_only = 1;
  FAILS(want, skv_open_in(env, FIXTURE_PATH, &options, &fixture_err, &store));
  if (want == STRATAKV_OK) OK(read_one(store, 2));
  if (want != STRATAKV_OK) CHECK(strstr(fixture_err.message, "SHARED") != NULL);
  OK(stratakv_close(store, &fixture_err));
  options.read_only = 0;
  skv_env_mem_free(env);
  fixture_clear(&copy);
}

static void test_left_behind(void) {
  skv_env *env = fixture_world(&(fixture_image){0});
  stratakv_store *store = open_filled(env);
  fixture_image image = fixture_take(env);
  const size_t tail = offsetof(skv_shared, tail);
  fixture_image ahead = fixture_copy(&image);
  uint8_t *page = fixture_find(&ahead, "SHARED")->bytes;
  skv_put64(page + tail, skv_get64(page + tail) + 8);
  const size_t durable = offsetof(skv_shared, durable);
  try_left_behind(&image, durable, 0, true, STRATAKV_OK);
  try_left_behind(&ahead, durable, 8, true, STRATAKV_CORRUPT);
  try_left_behind(&ahead, durable, 8, false, STRATAKV_OK);
  const size_t head = offsetof(skv_shared, head);
  try_left_behind(&image, head, 8, true, STRATAKV_CORRUPT);
  try_left_behind(&image, head, 8, false, STRATAKV_OK);
  fixture_clear(&ahead);
  fixture_clear(&image);
  OK(stratakv_close(store, &fixture_err));
  skv_env_mem_free(env);
}

int main(void) {
  test_visible();
  test_left_behind();
  test_head();
  test_tail();
  test_owner();
  return check_end();
}
