/*
 * What a thread finds by a word that another stored, or frees because it was
 * the last who held it, must have been written, or read, before. Each case has
 * two threads that take turns without ordering anything, so that nothing but
 * the engine's own acquire and release, or mutex, stands between them, and the
 * race detector tells when one is missing. In other builds it only runs.
 *
 * Covers: INV-4, INV-9
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <unistd.h>

#include "engine/db/txn.h"
#include "engine/mem/mem_internal.h"
#include "engine/seg/cache.h"
#include "engine/tree/version_impl.h"
#include "engine/util/hash.h"
#include "engine/util/point.h"
#include "engine/wal/wal.h"
#include "test/c/db_fixture.h"

/* ---- Taking turns ------------------------------------------------------ */

static _Atomic int turn;

static void await(int n) {
  while (atomic_load_explicit(&turn, memory_order_relaxed) != n) sched_yield();
}

static void pass(int n) {
  atomic_store_explicit(&turn, n, memory_order_relaxed);
}

/* Something that is read and not used. */
static volatile uint64_t sink;

typedef struct two {
  void (*first)(void *arg), (*second)(void *arg);
  void *arg;
} two;

static void *two_first(void *arg) {
  two *t = arg;
  t->first(t->arg);
  pass(1);
  return NULL;
}

static void *two_second(void *arg) {
  two *t = arg;
  await(1);
  t->second(t->arg);
  return NULL;
}

/* The second begins when the first is done. */
static void in_turn(const char *name, void (*first)(void *),
                    void (*second)(void *), void *arg) {
  two t = {first, second, arg};
  pthread_t a, b;
  check_where = name;
  pass(0);
  if (pthread_create(&b, NULL, two_second, &t) ||
      pthread_create(&a, NULL, two_first, &t))
    abort();
  pthread_join(a, NULL);
  pthread_join(b, NULL);
  CHECK(atomic_load(&turn) == 1);
}

/* Where the first of two is interrupted. */
static const char *_Atomic pause_at;
static _Thread_local bool may_pause;

/* At most for a moment: the second may have to wait for a mutex of the first. */
static void paused(void *arg, const char *name) {
  const char *at = atomic_load_explicit(&pause_at, memory_order_relaxed);
  SKV_UNUSED(arg);
  if (!may_pause || at == NULL || strcmp(name, at) != 0) return;
  atomic_store_explicit(&pause_at, NULL, memory_order_relaxed);
  pass(1);
  for (int i = 0; i < 100; i++) {
    if (atomic_load_explicit(&turn, memory_order_relaxed) == 2) return;
    usleep(1000);
  }
}

static void *two_paused(void *arg) {
  two *t = arg;
  may_pause = true;
  t->first(t->arg);
  return NULL;
}

static void *two_between(void *arg) {
  two *t = arg;
  await(1);
  t->second(t->arg);
  pass(2);
  return NULL;
}

/* The second runs while the first stands at that point. */
static void in_between(const char *name, const char *point,
                       void (*first)(void *), void (*second)(void *),
                       void *arg) {
  two t = {first, second, arg};
  pthread_t a, b;
  check_where = name;
  pass(0);
  skv_point_set(paused, NULL);
  atomic_store(&pause_at, point);
  if (pthread_create(&b, NULL, two_between, &t) ||
      pthread_create(&a, NULL, two_paused, &t))
    abort();
  pthread_join(a, NULL);
  if (!CHECK(atomic_load(&pause_at) == NULL)) pass(1);
  pthread_join(b, NULL);
  skv_point_set(NULL, NULL);
}

/* ---- MemTables --------------------------------------------------------- */

#define LOG_SIZE (1u << 20)

typedef struct mem_case {
  uint8_t *bytes;
  skv_wal_place place;
  skv_mem *mem;
  skv_iter *it;
  uint32_t keys; /* put so far */
} mem_case;

static skv_slice mem_key(uint32_t k, char out[16]) {
  snprintf(out, 16, "%c%ckey%06u", 0, 1, (unsigned)k % 1000000);
  return skv_slice_of(out, 11);
}

static void mem_put(mem_case *m, uint32_t k, uint64_t value) {
  char room[16];
  skv_buf batch = {0};
  skv_slice key = mem_key(k, room);
  skv_batch_append(&batch, SKV_KIND_PUT, 1,
                   skv_slice_of(key.data + 2, key.size - 2),
                   skv_slice_of(&value, 8));
  uint8_t *record = m->bytes + m->place.offset;
  memcpy(record + SKV_RECORD_HEADER, batch.data, batch.size);
  skv_wal_encode(record, SKV_RECORD_COMMIT, batch.size, 4096, 1, &m->place);
  skv_buf_clear(&batch);
}

static mem_case mem_begin(uint32_t keys) {
  mem_case m = {0};
  skv_wal_header header = {"fedcba987654321", 3, 4096, 99};
  m.bytes = fixture_alloc(LOG_SIZE);
  m.place.seed = skv_wal_seed(&header);
  m.place.offset = SKV_WAL_HEADER;
  m.place.prev = header.prev;
  OK(skv_mem_new_log(m.bytes, LOG_SIZE, &header, "log", &fixture_err, &m.mem));
  for (; m.keys < keys; m.keys++) mem_put(&m, m.keys, 1);
  OK(skv_mem_catch_up(m.mem, m.place.offset, &fixture_err));
  return m;
}

/* The value of key k below limit; 0: none. */
static uint64_t mem_get(mem_case *m, uint32_t k, uint64_t limit) {
  char room[16];
  skv_slice key = mem_key(k, room);
  skv_entry entry;
  bool found;
  uint64_t value = 0;
  OK(skv_mem_get(m->mem, key, skv_hash(key), limit, &fixture_err, &found,
                 &entry));
  if (found) memcpy(&value, entry.value.data, 8);
  return value;
}

static void mem_put_more(void *arg) {
  mem_case *m = arg;
  mem_put(m, 0, 2);
  OK(skv_mem_catch_up(m->mem, m->place.offset, &fixture_err));
}

static void mem_see_newest(void *arg) { CHECK(mem_get(arg, 0, LOG_SIZE) == 2); }

/* More keys than the first table has slots. */
static void mem_grow(void *arg) {
  mem_case *m = arg;
  for (uint32_t k = 1; k < 2000; k++) mem_put(m, k, 1);
  OK(skv_mem_catch_up(m->mem, m->place.offset, &fixture_err));
}

static void mem_see_grown(void *arg) { CHECK(mem_get(arg, 1999, LOG_SIZE)); }

/* One key superseded so often that the history grows; another one's past is
 * asked for. */
static void mem_grow_history(void *arg) {
  mem_case *m = arg;
  for (uint64_t n = 0; n < 1500; n++) mem_put(m, 1, n);
  OK(skv_mem_catch_up(m->mem, m->place.offset, &fixture_err));
}

static uint64_t mem_between; /* a limit below which key 0 has its first value */

static void mem_see_past(void *arg) {
  CHECK(mem_get(arg, 0, mem_between) == 1);
}

static void mem_read_drop(void *arg) {
  mem_case *m = arg;
  CHECK(mem_get(m, 0, LOG_SIZE));
  sink = m->mem->size;
  skv_mem_unref(m->mem);
}

static void mem_drop(void *arg) { skv_mem_unref(((mem_case *)arg)->mem); }

/* An iterator reads arrays that are replaced by merged ones. */
static void mem_iterate(void *arg) {
  mem_case *m = arg;
  uint32_t n = 0;
  for (int rc = skv_iter_first(m->it, &fixture_err); rc == 0 && m->it->valid;
       rc = skv_iter_next(m->it, &fixture_err))
    n++;
  CHECK(n == m->keys);
  skv_iter_close(m->it);
}

static void mem_extend(void *arg) {
  mem_case *m = arg;
  skv_iter *it;
  for (uint32_t k = 1000; k < 2000; k++) mem_put(m, k, 1);
  OK(skv_mem_iter_new(m->mem, m->place.offset, &fixture_err, &it));
  skv_iter_close(it);
}

static void mem_end(mem_case *m) { free(m->bytes); }

static void test_mem(void) {
  mem_case m = mem_begin(10);
  mem_put(&m, 1, 2); /* a history */
  OK(skv_mem_catch_up(m.mem, m.place.offset, &fixture_err));
  in_turn("a slot", mem_put_more, mem_see_newest, &m);
  in_turn("the newest table", mem_grow, mem_see_grown, &m);
  skv_mem_unref(m.mem);
  mem_end(&m);

  m = mem_begin(2);
  mem_between = m.place.offset;
  mem_put_more(&m);
  in_turn("the history's table", mem_grow_history, mem_see_past, &m);
  skv_mem_ref(m.mem);
  in_turn("a MemTable", mem_read_drop, mem_drop, &m);
  mem_end(&m);

  m = mem_begin(100);
  OK(skv_mem_iter_new(m.mem, m.place.offset, &fixture_err, &m.it));
  in_turn("replaced arrays", mem_iterate, mem_extend, &m);
  skv_mem_unref(m.mem);
  mem_end(&m);

  /* The old list is the iterator's alone, its array is in the new one too. */
  m = mem_begin(400);
  skv_iter *it;
  OK(skv_mem_iter_new(m.mem, m.place.offset, &fixture_err, &m.it));
  mem_put(&m, 900, 1);
  OK(skv_mem_iter_new(m.mem, m.place.offset, &fixture_err, &it));
  skv_iter_close(it);
  in_turn("a shared array", mem_iterate, mem_extend, &m);
  skv_mem_unref(m.mem);
  mem_end(&m);
}

/* ---- A transaction's changes ------------------------------------------- */

typedef struct change_case {
  skv_changes *changes;
  const uint8_t *data; /* as a cursor keeps it */
  skv_spill *spill;
} change_case;

static void change_add(skv_changes *changes, uint32_t count) {
  char value[1000] = {0};
  for (uint32_t i = 0; i < count; i++)
    OK(skv_changes_add(changes, SKV_KIND_PUT, 1, skv_slice_of(&i, 4),
                       skv_slice_of(value, sizeof value), &fixture_err));
}

/* A cursor of another thread reads, and is closed. */
static void change_read(void *arg) {
  change_case *c = arg;
  for (size_t i = 0; i < 4000; i++) sink += c->data[i];
  skv_changes_unref(c->changes);
}

static void change_grow(void *arg) {
  change_add(((change_case *)arg)->changes, 10);
}

/* Cut back and written over. */
static void change_cut(void *arg) {
  change_case *c = arg;
  OK(skv_changes_cut(&c->changes, 0, &fixture_err));
  change_add(c->changes, 2);
}

static void change_drop(void *arg) {
  skv_changes_unref(((change_case *)arg)->changes);
}

static void spill_read(void *arg) {
  change_case *c = arg;
  sink = c->spill->entries;
  skv_spill_unref(c->spill);
}

static void spill_drop(void *arg) {
  skv_spill_unref(((change_case *)arg)->spill);
}

static void test_changes(void) {
  static const struct {
    const char *name;
    void (*second)(void *);
  } cases[] = {{"changes that grow", change_grow},
               {"changes that are cut", change_cut},
               {"changes that end", change_drop}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    change_case c = {.changes = skv_changes_new()};
    change_add(c.changes, 4);
    c.data = c.changes->data;
    skv_changes_ref(c.changes);
    in_turn(cases[i].name, change_read, cases[i].second, &c);
    if (cases[i].second != change_drop) skv_changes_unref(c.changes);
  }
  int rc = STRATAKV_OK;
  change_case c = {.spill = skv_new(sizeof *c.spill, &rc)};
  c.spill->is_kept = true;
  atomic_init(&c.spill->refs, 2);
  in_turn("a spill", spill_read, spill_drop, &c);
}

/* ---- Stores ------------------------------------------------------------ */

typedef struct store_case {
  skv_env *env, *other_env;
  stratakv_store *store, *other; /* of two processes */
  stratakv_store *third;         /* of the first */
  uint32_t table;
  skv_version *version, *next;
  skv_segref *ref, *copy;
  stratakv_txn *txn;
} store_case;

static stratakv_store *store_open(skv_env *env) {
  stratakv_options options = fixture_options();
  stratakv_store *store = NULL;
  OK(skv_open_in(env, FIXTURE_PATH, &options, &fixture_err, &store));
  return store;
}

static uint32_t store_read(stratakv_store *store, uint32_t table, uint32_t i) {
  char key[32];
  stratakv_value got = {0};
  size_t n = fixture_key(i, key);
  if (!OK(stratakv_get(store, NULL, table, key, n, &fixture_err, &got)))
    return 0;
  uint32_t v = fixture_number(got.data, got.size);
  stratakv_value_clear(&got);
  return v;
}

/* The log and its index are at hand in both, and all keys are in segments. */
static store_case store_begin(void) {
  store_case s = {.env = fixture_world(&(fixture_image){0})};
  stratakv_table_info info = {0};
  s.other_env = skv_env_mem_process(s.env);
  s.store = store_open(s.env);
  OK(stratakv_table(s.store, "kv", STRATAKV_KEY_TEXT, 1, &fixture_err, &info));
  s.table = info.id;
  for (uint32_t i = 0; i < 20; i++)
    OK(fixture_put(s.store, s.table, i, i + 1, NULL));
  OK(stratakv_flush(s.store, &fixture_err));
  OK(fixture_put(s.store, s.table, 5, 55, NULL));
  s.other = store_open(s.other_env);
  CHECK(store_read(s.store, s.table, 5) == 55);
  CHECK(store_read(s.other, s.table, 5) == 55);
  return s;
}

static void store_end(store_case *s) {
  OK(stratakv_close(s->other, &fixture_err));
  OK(stratakv_close(s->store, &fixture_err));
  skv_env_mem_free(s->other_env);
  skv_env_mem_free(s->env);
}

static void store_write(void *arg) {
  store_case *s = arg;
  OK(fixture_put(s->store, s->table, 5, 77, NULL));
}

static void store_see(void *arg) {
  store_case *s = arg;
  CHECK(store_read(s->other, s->table, 5) == 77);
}

/* What a device does when it syncs the log: it reads what is below the tail. */
static int store_device(skv_file *file, skv_err *err) {
  SKV_UNUSED(err);
  const skv_mem_node *node = ((struct skv_mem_handle *)file)->node;
  for (size_t i = 0; i < node->size; i++) sink += node->bytes[i];
  return STRATAKV_OK;
}

static void store_sync(void *arg) {
  skv_db *db = ((store_case *)arg)->other->db;
  uint64_t before = atomic_load(&db->counters.syncs);
  db->env->file_sync = store_device;
  atomic_store_explicit(&db->unsynced, 1, memory_order_relaxed);
  skv_sync_now(db);
  CHECK(atomic_load(&db->counters.syncs) == before + 1);
}

/* A reader lets a state go, and it is freed when the next one is there. */
static void store_view(void *arg) {
  skv_view view;
  OK(skv_view_take(((store_case *)arg)->store->db, &fixture_err, &view));
  sink = view.state->version->pos;
  sink = view.state->log_count;
  skv_view_release(&view);
}

static void store_flush(void *arg) {
  OK(stratakv_flush(((store_case *)arg)->store, &fixture_err));
}

/* ---- Versions and segments --------------------------------------------- */

static void version_read(void *arg) {
  store_case *s = arg;
  sink = s->version->pos + s->version->tables[0].id;
  skv_version_unref(s->version);
}

static void version_drop(void *arg) {
  store_case *s = arg;
  skv_version_unref(s->next);
}

static void ref_read(void *arg) {
  store_case *s = arg;
  sink = s->ref->number;
  skv_segref_unref(s->ref);
}

static void ref_drop(void *arg) { skv_segref_unref(((store_case *)arg)->ref); }

/* The open file that two references share. */
static void file_read(void *arg) {
  store_case *s = arg;
  skv_seg *seg;
  OK(skv_segref_get(&s->store->db->tree, s->ref, &fixture_err, &seg));
  CHECK(skv_seg_in(seg) != NULL);
  skv_segref_unref(s->ref);
}

static void file_drop(void *arg) {
  skv_segref_unref(((store_case *)arg)->copy);
}

static void file_load(void *arg) {
  store_case *s = arg;
  skv_seg *seg;
  OK(skv_segref_get(&s->store->db->tree, s->ref, &fixture_err, &seg));
}

/* A version with a table, and one behind it that shares the list of tables. */
static void version_begin(store_case *s) {
  static const uint8_t id[16] = "fixture store id";
  skv_version *empty = NULL;
  stratakv_table_info table = {
      .id = 1, .key_type = STRATAKV_KEY_TEXT, .name = "kv"};
  skv_buf edit = {0};
  OK(skv_version_new(NULL, id, &fixture_err, &empty));
  skv_edit_table(&edit, &table);
  OK(skv_version_apply(NULL, empty, skv_buf_bytes(&edit), 1, false,
                       &fixture_err, &s->version));
  edit.size = 0;
  skv_edit_next(&edit, 9);
  OK(skv_version_apply(NULL, s->version, skv_buf_bytes(&edit), 2, false,
                       &fixture_err, &s->next));
  skv_version_unref(empty);
  skv_buf_clear(&edit);
}

/* A reference to the store's segment whose file nobody else has open. */
static void ref_begin(store_case *s) {
  skv_tree *tree = &s->store->db->tree;
  skv_segref closed = *s->store->db->state->version->runs[0].segs[0];
  closed.file = NULL;
  s->ref = skv_segref_copy(&closed);
  if (s->ref == NULL) abort();
  OK(skv_segref_open(tree, s->ref, &fixture_err));
}

static void test_versions(store_case *s) {
  version_begin(s);
  in_turn("the tables of versions", version_read, version_drop, s);
  version_begin(s);
  skv_version_unref(s->next);
  s->next = skv_version_ref(s->version);
  in_turn("a version", version_read, version_drop, s);

  ref_begin(s);
  skv_segref_ref(s->ref);
  in_turn("a segment's reference", ref_read, ref_drop, s);
  ref_begin(s);
  s->copy = skv_segref_copy(s->ref);
  in_turn("a segment that is loaded", file_load, file_read, s);
  skv_segref_unref(s->copy);
  ref_begin(s);
  s->copy = skv_segref_copy(s->ref);
  in_turn("a segment's file", file_read, file_drop, s);
}

static void file_in(void *arg) {
  CHECK(skv_segref_in(((store_case *)arg)->ref) != NULL);
}

/* ---- What a mutex keeps ------------------------------------------------ */

/* The first touches all that the mutex keeps; then what the second does first
 * must take it. */
static void handle_come_and_go(void *arg) {
  OK(stratakv_close(store_open(((store_case *)arg)->env), &fixture_err));
}

static void handle_come(void *arg) {
  store_case *s = arg;
  s->third = store_open(s->env);
}

static void handle_go(void *arg) {
  OK(stratakv_close(((store_case *)arg)->third, &fixture_err));
}

static void cache_use(void *arg) {
  CHECK(skv_cache_get(((store_case *)arg)->store->db->tree.cache, 1, 2) ==
        NULL);
}

static void cache_ask(void *arg) {
  uint64_t bytes, hits, misses;
  skv_cache_stats(((store_case *)arg)->store->db->tree.cache, &bytes, &hits,
                  &misses);
  CHECK(misses > 0);
}

/* Queued, and out of the queue again: no time. */
static void commit_no_time(void *arg) {
  store_case *s = arg;
  char key[32];
  size_t n = fixture_key(9, key);
  FAILS(STRATAKV_BUSY,
        stratakv_put(s->third, s->table, key, n, "x", 1, &fixture_err, NULL));
}

static void state_doubt(void *arg) {
  skv_write_doubt(((store_case *)arg)->store->db);
}

static void state_pin(void *arg) {
  skv_pin_update(((store_case *)arg)->other->db);
}

static void state_follow(void *arg) {
  OK(skv_head_follow(((store_case *)arg)->other->db, &fixture_err));
}

/* A state that another process's flush made. */
static void state_of_other(void *arg) {
  store_case *s = arg;
  OK(fixture_put(s->other, s->table, 1, 3, NULL));
  OK(stratakv_flush(s->other, &fixture_err));
  OK(skv_head_follow(s->store->db, &fixture_err));
}

static void other_write(void *arg) {
  store_case *s = arg;
  OK(fixture_put(s->other, s->table, 1, 4, NULL));
}

static void store_compact(void *arg) {
  OK(stratakv_compact(((store_case *)arg)->store, NULL, NULL, &fixture_err));
}

/* Two megabytes: between pieces of a compaction others are looked for. */
static void store_fill(store_case *s) {
  static char value[10 << 10];
  skv_prng rng = {7};
  for (uint32_t i = 0; i < 200; i++) {
    char key[32];
    size_t n = fixture_key(100 + i, key);
    skv_prng_fill(&rng, value, sizeof value);
    OK(stratakv_put(s->store, s->table, key, n, value, sizeof value,
                    &fixture_err, NULL));
  }
}

/* Nobody can flush, until the writer has to wait. */
static void store_stall(store_case *s) {
  static char value[10 << 10];
  int rc = STRATAKV_OK;
  check_where = "a stall";
  OK(stratakv_set_busy_timeout(s->store, 20));
  OK(skv_store_lock(s->other->db->store, SKV_LOCK_FLUSH, SKV_EXCLUSIVE,
                    &fixture_err));
  for (uint32_t i = 0; i < 100 && rc == STRATAKV_OK; i++)
    rc = stratakv_put(s->store, s->table, "s", 1, value, sizeof value,
                      &fixture_err, NULL);
  CHECK(rc == STRATAKV_BUSY);
  OK(skv_store_lock(s->other->db->store, SKV_LOCK_FLUSH, SKV_UNLOCK,
                    &fixture_err));
}

/* As a worker does it: between pieces it looks for what goes first. */
static void work_slice(void *arg) {
  skv_db *db = ((store_case *)arg)->store->db;
  bool did;
  db->has_worker = true;
  OK(skv_compact_step(db, true, &did, &fixture_err));
  db->has_worker = false;
  skv_state_bury(db);
}

static void work_do_asked(void *arg) {
  skv_work_inline(((store_case *)arg)->store->db);
}

static void log_ready(void *arg) {
  OK(skv_rotate_ready(((store_case *)arg)->store->db, &fixture_err));
}

static void work_ask(void *arg) {
  skv_work_ask(((store_case *)arg)->store->db);
}

/* A third of the log, then the work that is due. */
static void work_do(void *arg) {
  store_case *s = arg;
  static char value[7 << 10];
  for (int i = 0; i < 3; i++)
    OK(stratakv_put(s->store, s->table, "pad", 3, value, sizeof value,
                    &fixture_err, NULL));
  skv_work_ask(s->store->db);
  skv_work_inline(s->store->db);
}

static void test_between(store_case *s) {
  stratakv_options options = fixture_options();
  options.busy_timeout_ms = 0;
  OK(skv_open_in(s->env, FIXTURE_PATH, &options, &fixture_err, &s->third));
  in_between("the queue of commits", "write.taken", store_write, commit_no_time,
             s);
  OK(skv_write_acquire(s->other->db, 0, 0, &fixture_err));
  in_between("a commit without time", "write.asked", commit_no_time,
             commit_no_time, s);
  skv_write_release(s->other->db);
  OK(stratakv_close(s->third, &fixture_err));

  in_turn("logs in doubt", store_flush, state_doubt, s);
  in_between("a log that is opened", "state.log_named", state_follow, state_pin,
             s);
  store_write(s);
  store_flush(s);
  in_between("a pin", "state.pin_known", state_pin, other_write, s);
  skv_db *db = s->other->db;
  CHECK(skv_peek(&db->shared->slots[db->slot].pinned_wal) ==
        db->active->number);
  store_fill(s);
  store_compact(s);
  store_fill(s);
  in_between("what compaction looks at", "compact.yielded", work_slice,
             state_of_other, s);
  store_flush(s);
  store_write(s);
  store_flush(s);
  in_between("two compactions", "compact.picked", store_compact, store_compact,
             s);
  in_between("work that is asked for", "commit.led", store_write, work_ask, s);
  in_between("the log that is ready", "write.taken", store_flush, log_ready, s);
  store_write(s);
  in_between("two logs that are ready", "log.filled", log_ready, log_ready, s);
  store_write(s);
  store_flush(s);
  in_between("a log of the worker's", "work.log_ready", work_do, log_ready, s);
  store_stall(s);
}

/* ---- What is prepared, and what no head names ---------------------------- */

static stratakv_txn *store_txn(store_case *s, uint32_t changes) {
  stratakv_txn *txn = NULL;
  OK(stratakv_begin(s->store, &fixture_err, &txn));
  for (uint32_t i = 0; i < changes; i++)
    OK(fixture_txn_put(txn, s->table, i % 120, 1000 + i));
  return txn;
}

static void txn_prepare(void *arg) {
  OK(stratakv_prepare(((store_case *)arg)->txn, &fixture_err));
}

static void txn_expire(void *arg) {
  OK(skv_prepared_expire(((store_case *)arg)->store->db));
}

/* Takes a view and reads nothing. */
static void store_look(void *arg) {
  skv_view view;
  if (!OK(skv_view_take(((store_case *)arg)->store->db, &fixture_err, &view)))
    return;
  CHECK(view.state->named != NULL);
  skv_view_release(&view);
}

static int no_rename(skv_dir *dir, const char *from, const char *to,
                     skv_err *err) {
  SKV_UNUSED(dir);
  SKV_UNUSED(from);
  SKV_UNUSED(to);
  return SKV_ERROR(err, STRATAKV_IOERR, "no rename");
}

static void test_prepared(store_case *s) {
  s->txn = store_txn(s, 20);
  in_turn("a prepare that may expire", txn_prepare, txn_expire, s);
  stratakv_rollback(s->txn);

  int (*plain)(skv_dir *, const char *, const char *, skv_err *) =
      s->env->dir_rename;
  s->txn = store_txn(s, 250); /* INGEST */
  OK(stratakv_prepare(s->txn, &fixture_err));
  s->env->dir_rename = no_rename;
  OK(stratakv_commit(s->txn, &fixture_err, NULL));
  s->env->dir_rename = plain;
  in_turn("segments that no head names", store_look, store_look, s);
  OK(fixture_put(s->store, s->table, 5, 55, NULL));
}

/* ---- What the worker gives back -------------------------------------------- */

/* No space, as another thread learns meanwhile, too. */
static int disk_full(skv_dir *dir, skv_err *err, uint64_t *bytes) {
  SKV_UNUSED(dir);
  SKV_UNUSED(err);
  *bytes = 0;
  paused(NULL, "disk.full");
  return STRATAKV_OK;
}

static void test_full(store_case *s) {
  int (*plain)(skv_dir *, skv_err *, uint64_t *) = s->env->dir_free;
  skv_work_ask(s->store->db);
  s->env->dir_free = disk_full;
  in_between("a log that is given back", "disk.full", work_do_asked, log_ready,
             s);
  s->env->dir_free = plain;
}

static int (*plain_lock)(skv_file *, uint64_t, uint64_t, int, skv_err *);

/* FLUSH was given back. */
static int lock_paused(skv_file *file, uint64_t offset, uint64_t size, int mode,
                       skv_err *err) {
  int rc = plain_lock(file, offset, size, mode, err);
  if (offset == SKV_LOCK_FLUSH && mode == SKV_UNLOCK)
    paused(NULL, "flush.looked");
  return rc;
}

static void test_hoard(store_case *s) {
  plain_lock = s->env->file_lock;
  s->env->file_lock = lock_paused;
  skv_work_ask(s->store->db);
  in_between("whether files are hoarded", "flush.looked", work_do_asked,
             state_of_other, s);
  s->env->file_lock = plain_lock;
}

/* The syncer is between two looks at who leads. */
static void syncer_paused(void *arg, const char *name) {
  SKV_UNUSED(arg);
  may_pause = strcmp(name, "syncer.finishing") == 0;
  paused(NULL, name);
  may_pause = false;
}

static void test_syncer(void) {
  stratakv_options options = fixture_options();
  stratakv_store *store = NULL;
  skv_env *env = fixture_world(&(fixture_image){0});
  check_where = "who leads";
  options.background = 1;
  pass(0);
  skv_point_set(syncer_paused, NULL);
  OK(skv_open_in(env, FIXTURE_PATH, &options, &fixture_err, &store));
  atomic_store(&pause_at, "syncer.finishing");
  while (atomic_load_explicit(&turn, memory_order_relaxed) != 1) {
    skv_syncer_wake(store->db); /* it may not have begun to wait */
    usleep(1000);
  }
  OK(skv_lead_begin(store->db, 1000, &fixture_err));
  pass(2);
  skv_lead_end(store->db);
  OK(stratakv_close(store, &fixture_err));
  skv_point_set(NULL, NULL);
  skv_env_mem_free(env);
}

static void test_mutexes(store_case *s) {
  ref_begin(s);
  in_turn("a segment's file is asked for", file_load, file_in, s);
  skv_segref_unref(s->ref);
  in_turn("a handle comes", handle_come_and_go, handle_come, s);
  in_turn("a handle goes", handle_come_and_go, handle_go, s);
  in_turn("the cache's figures", cache_use, cache_ask, s);
}

/* ---- The file system in memory ----------------------------------------- */

typedef struct fs_case {
  skv_env *env[2];   /* two processes */
  skv_dir *dir[2];   /* the same directory */
  skv_dir *empty[2]; /* and two that are empty */
  skv_file *file[2];
  void *map[2];
  int step; /* what the second process does */
} fs_case;

static int fs_none(void *arg, const char *name) {
  SKV_UNUSED(arg);
  SKV_UNUSED(name);
  return 0;
}

static void fs_make(skv_dir *dir, const char *name) {
  skv_file *file;
  OK(dir->env->file_open(dir, name, SKV_FILE_WRITE | SKV_FILE_CREATE,
                         &fixture_err, &file));
  OK(dir->env->file_write(file, 0, name, strlen(name), &fixture_err));
  dir->env->file_close(file);
}

/* Everything that a process can change. */
static void fs_change(void *arg) {
  fs_case *f = arg;
  skv_env *env = f->env[0];
  skv_dir *dir;
  skv_file *file;
  void *map;
  char chance[8];
  OK(env->random(env, chance, sizeof chance, &fixture_err));
  OK(env->dir_open(env, NULL, "/made", SKV_DIR_CREATE, &fixture_err, &dir));
  OK(env->dir_remove(dir, &fixture_err));
  env->dir_close(dir);
  OK(env->dir_open(env, NULL, "/store", 0, &fixture_err, &dir));
  env->dir_close(dir);
  fs_make(f->dir[0], "a");
  OK(env->dir_link(f->dir[0], "a", f->dir[0], "b", &fixture_err));
  OK(env->dir_rename(f->dir[0], "b", "c", &fixture_err));
  OK(env->dir_unlink(f->dir[0], "c", &fixture_err));
  OK(env->file_open(f->dir[0], "x", SKV_FILE_WRITE, &fixture_err, &file));
  OK(env->file_map(file, 4096, true, false, &fixture_err, &map));
  env->unmap(env, map, 4096);
  env->file_close(file);
  skv_env_mem_free(skv_env_mem_process(env));
}

static void fs_dirs(fs_case *f) {
  skv_env *env = f->env[1];
  skv_dir_info info;
  skv_dir *dir;
  uint64_t bytes;
  switch (f->step) {
  case 0:
    OK(env->dir_open(env, NULL, "/store", 0, &fixture_err, &dir));
    env->dir_close(dir);
    break;
  case 1:
    env->dir_close(f->dir[1]);
    f->dir[1] = NULL;
    break;
  case 2: OK(env->dir_info(f->dir[1], &fixture_err, &info)); break;
  case 3: OK(env->dir_list(f->dir[1], fs_none, NULL, &fixture_err)); break;
  case 4: OK(env->dir_rename(f->dir[1], "y", "z", &fixture_err)); break;
  case 5: OK(env->dir_unlink(f->dir[1], "y", &fixture_err)); break;
  case 6:
    OK(env->dir_link(f->dir[1], "y", f->dir[1], "z", &fixture_err));
    break;
  case 7: OK(env->dir_remove(f->empty[1], &fixture_err)); break;
  case 8: OK(env->dir_free(f->dir[1], &fixture_err, &bytes)); break;
  default: break;
  }
}

#define FS_STEPS 15

static void fs_use(void *arg) {
  fs_case *f = arg;
  skv_env *env = f->env[1], *third;
  skv_file *file;
  char chance[8];
  switch (f->step) {
  case 9: OK(env->random(env, chance, sizeof chance, &fixture_err)); break;
  case 10:
    third = skv_env_mem_process(env);
    skv_env_mem_free(third);
    break;
  case 11:
    skv_env_mem_free(env);
    f->env[1] = NULL;
    break;
  case 12:
    OK(env->file_open(f->dir[1], "x", 0, &fixture_err, &file));
    env->file_close(file);
    break;
  case 13:
    env->file_close(f->file[1]);
    f->file[1] = NULL;
    break;
  case 14:
    env->unmap(env, f->map[1], 4096);
    f->map[1] = NULL;
    break;
  default: fs_dirs(f); break;
  }
}

static void fs_begin(fs_case *f) {
  f->env[0] = skv_env_mem_new();
  f->env[1] = skv_env_mem_process(f->env[0]);
  skv_mem_env_of(f->env[0])->fs->capacity = 1 << 20;
  for (int i = 0; i < 2; i++) {
    skv_env *env = f->env[i];
    OK(env->dir_open(env, NULL, "/store", SKV_DIR_CREATE, &fixture_err,
                     &f->dir[i]));
    OK(env->dir_open(env, NULL, i ? "/empty1" : "/empty0", SKV_DIR_CREATE,
                     &fixture_err, &f->empty[i]));
  }
  fs_make(f->dir[0], "x");
  fs_make(f->dir[0], "y");
  for (int i = 0; i < 2; i++) {
    skv_env *env = f->env[i];
    OK(env->file_open(f->dir[i], "x", SKV_FILE_WRITE, &fixture_err,
                      &f->file[i]));
    OK(env->file_map(f->file[i], 4096, true, false, &fixture_err, &f->map[i]));
  }
}

static void fs_end(fs_case *f) {
  for (int i = 0; i < 2; i++) {
    skv_env *env = f->env[i];
    if (env == NULL) continue;
    if (f->map[i]) env->unmap(env, f->map[i], 4096);
    if (f->file[i]) env->file_close(f->file[i]);
    if (f->dir[i]) env->dir_close(f->dir[i]);
    env->dir_close(f->empty[i]);
    skv_env_mem_free(env);
  }
}

static void test_fs(void) {
  for (int step = 0; step < FS_STEPS; step++) {
    fs_case f = {.step = step};
    char name[40];
    snprintf(name, sizeof name, "files in memory, step %d", step);
    fs_begin(&f);
    in_turn(name, fs_change, fs_use, &f);
    fs_end(&f);
  }
}

static void test_stores(void) {
  store_case s = store_begin();
  in_turn("what is visible", store_write, store_see, &s);
  in_turn("what is synced", store_write, store_sync, &s);
  test_versions(&s);
  test_mutexes(&s);
  test_between(&s);
  test_prepared(&s);
  test_full(&s);
  test_hoard(&s);
  in_turn("a state", store_view, store_flush, &s);
  store_end(&s);
}

int main(void) {
  size_t allocated = skv_alloc_count();
  test_mem();
  test_changes();
  test_stores();
  test_syncer();
  test_fs();
  check_where = "";
  CHECK(skv_alloc_count() == allocated);
  return check_end();
}
