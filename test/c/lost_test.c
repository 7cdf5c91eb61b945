/*
 * What the page cache shows and the disk does not have: a process dies, and
 * what it wrote was not synced, or its sync had failed. Who comes next must not
 * vouch for it before it has written it again (L4, P12), and what nobody was
 * shown must not turn up later (L2).
 *
 *   1  records of an owner of WRITE: the next owner writes them again
 *   2  a record that it did not publish: the next owner wipes it out, though it
 *      writes nothing there
 *   3  records of everybody: recovery writes them again
 *   4  an edit of the manifest: the next writer, or recovery, writes it again
 *
 * Each is followed by a power cut that leaves only what was synced.
 *
 * Covers: INV-1, INV-2, INV-7, L2, L4, P3, P12
 */
#include "engine/wal/batch.h"
#include "test/c/crash.h"

#define KEYS 60

static skv_env *env, *second_env; /* two processes */
static recording *record;
static stratakv_store *first, *second;
static uint32_t table, rows[KEYS];

static stratakv_store *open_as(skv_env *process, int sync) {
  stratakv_options options = fixture_options();
  stratakv_table_info info = {0};
  stratakv_store *store = NULL;
  options.sync = sync;
  if (OK(skv_open_in(process, FIXTURE_PATH, &options, &fixture_err, &store)))
    OK(stratakv_table(store, "kv", STRATAKV_KEY_TEXT, 1, &fixture_err, &info));
  table = info.id;
  return store;
}

static void begin(const char *where) {
  check_where = where;
  memset(rows, 0, sizeof rows);
  env = fixture_world(&(fixture_image){0});
  second_env = skv_env_mem_process(env);
  record = record_begin(env, NULL);
  record_attach(record, second_env);
  first = open_as(env, STRATAKV_SYNC_OFF);
}

static void put(stratakv_store *store, uint32_t from, uint32_t count) {
  for (uint32_t i = from; i < from + count; i++) {
    rows[i] = 100 + i;
    OK(fixture_put(store, table, i, rows[i], NULL));
  }
}

static bool shows(stratakv_store *store) {
  uint32_t seen[KEYS];
  return OK(fixture_scan(store, table, seen, KEYS)) &&
         memcmp(seen, rows, sizeof rows) == 0;
}

/* The file that name leads to. */
static uint64_t inode_of(int kind, uint64_t number) {
  char text[SKV_NAME_SIZE];
  skv_name name = {.kind = kind, .number = number};
  skv_name_format(&name, text);
  const skv_mem_node *node =
      skv_mem_find(record->fs, fixture_dir(record->fs), text);
  return CHECK(node != NULL) ? node->inode : 0;
}

static void lose_log(void) {
  record_lose(record, inode_of(SKV_NAME_WAL, first->db->active->number));
}

/* The first process is no more: all that is left of it is what it did. (Its
 * memory is given back in the end: it must not believe that it leads.) */
static void die(void) {
  const skv_mem_handle *h = skv_mem_env_of(env)->handles;
  for (; h != NULL; h = h->next) skv_mem_unlock_all(h->node, h);
  first->db->write_held = false;
  skv_lead_end(first->db);
}

/* WRITE is the first one's, and it has said so. */
static void own(void) {
  OK(skv_lead_begin(first->db, 0, &fixture_err));
  OK(skv_write_acquire(first->db, 0, 0, &fixture_err));
}

static bool tables_made; /* "lost" and "next" */

static bool has_table(stratakv_store *store, const char *name, int create) {
  stratakv_table_info info;
  return stratakv_table(store, name, STRATAKV_KEY_TEXT, create, NULL, &info) ==
         STRATAKV_OK;
}

/* A store that these files make shows the rows. */
static void check_image(const fixture_image *image, bool same_boot) {
  skv_env *world = fixture_world(image);
  if (same_boot) fixture_same_boot(world);
  stratakv_store *store = open_as(world, STRATAKV_SYNC_FULL);
  if (store != NULL) {
    CHECK(shows(store));
    for (int i = 0; i < 2 && tables_made; i++)
      CHECK(has_table(store, i == 0 ? "lost" : "next", 0));
    OK(stratakv_check(store, NULL, &fixture_err));
    OK(stratakv_close(store, &fixture_err));
  }
  skv_env_mem_free(world);
}

/* The power fails now. */
static void check_cut(void) {
  skv_prng rng = {1};
  crash c = crash_begin(record, &rng);
  crash_choose(&c, 0);
  fixture_image image = crash_image(&c);
  crash_end(&c);
  check_image(&image, false);
  fixture_clear(&image);
}

/* Everybody dies now. */
static void check_death(void) {
  fixture_image image = fixture_take(env);
  check_image(&image, true);
  check_image(&image, false);
  fixture_clear(&image);
}

static void end(void) {
  stratakv_close(second, NULL);
  stratakv_close(first, NULL); /* it does not know that it is dead */
  skv_env_mem_free(second_env);
  skv_env_mem_free(env);
  record_free(record);
  first = second = NULL;
  check_where = "";
}

static void test_owner(void) {
  begin("records of a dead owner");
  second = open_as(second_env, STRATAKV_SYNC_FULL);
  put(first, 0, 30);
  own();
  lose_log();
  die();
  put(second, 30, 1);
  CHECK(shows(second));
  check_cut();
  end();
}

static void test_unpublished(void) {
  skv_buf batch = {0};
  char key[32], value[512];
  uint64_t lsn;
  begin("a record that was not published");
  second = open_as(second_env, STRATAKV_SYNC_FULL);
  put(first, 0, 10);
  own();
  skv_shared *page = first->db->shared;
  uint64_t tail = skv_load(&page->tail);
  size_t key_size = fixture_key(40, key);
  skv_batch_append(&batch, SKV_KIND_PUT, table, skv_slice_of(key, key_size),
                   skv_slice_of(value, fixture_value(9, value)));
  OK(skv_append(first->db, SKV_RECORD_COMMIT, skv_buf_bytes(&batch), 1, true,
                &fixture_err, &lsn));
  skv_store_word(&page->tail, tail);
  skv_buf_clear(&batch);
  die();
  OK(skv_lead_begin(second->db, 0, &fixture_err));
  OK(skv_write_acquire(second->db, 0, 0, &fixture_err));
  skv_lead_end(second->db);
  CHECK(shows(second));
  check_death();
  check_cut();
  end();
}

static void test_recovery(void) {
  begin("records of everybody");
  put(first, 0, 30);
  lose_log();
  die();
  second = open_as(second_env, STRATAKV_SYNC_FULL);
  CHECK(shows(second));
  check_cut();
  end();
}

static int no_sync(skv_file *file, skv_err *err) {
  SKV_UNUSED(file);
  SKV_UNUSED(err);
  return STRATAKV_OK;
}

/* The first one dies with an edit that it wrote and did not publish. */
static void lose_edit(void) {
  skv_shared *page = first->db->shared;
  skv_head_pos head = skv_load(&page->head);
  env->file_sync = no_sync;
  CHECK(has_table(first, "lost", 1));
  env->file_sync = second_env->file_sync;
  CHECK(skv_load(&page->head) > head);
  skv_store_word(&page->head, head);
  record_lose(record, inode_of(SKV_NAME_MANIFEST, skv_head_file(head)));
  die();
}

static void test_edit(bool everybody) {
  begin(everybody ? "an edit of everybody" : "an edit of a dead writer");
  put(first, 0, 10);
  if (!everybody) second = open_as(second_env, STRATAKV_SYNC_FULL);
  lose_edit();
  if (everybody) second = open_as(second_env, STRATAKV_SYNC_FULL);
  CHECK(has_table(second, "next", 1) && has_table(second, "lost", 0));
  put(second, 30, 1);
  tables_made = true;
  check_cut();
  tables_made = false;
  end();
}

int main(void) {
  test_owner();
  test_unpublished();
  test_recovery();
  test_edit(false);
  test_edit(true);
  return check_end();
}
