/*
 * A shared page with words that cannot be, while another process has the store
 * open.
 *
 *   head of 0      who joins is refused
 *   sunken tail    of a dead owner: nobody erases what was committed
 *   absurd owner   is dead, and no other byte of LOCK is touched to find out
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

int main(void) {
  test_head();
  test_tail();
  test_owner();
  return check_end();
}
