/*
 * The public handle: opening and closing, options, tables, snapshots, reads.
 */
#include <stdio.h>

#include "engine/db/handle.h"
#ifdef SKV_TEST
#include "engine/os/env_fault.h"
#endif

/* ---- Checks ------------------------------------------------------------ */

int skv_handle_check(const stratakv_store *store, skv_err *err) {
  if (!store) return SKV_ERROR(err, STRATAKV_MISUSE, "no store, or no handle");
  if (store->fork_generation == skv_fork_generation()) return STRATAKV_OK;
  return SKV_ERROR(err, STRATAKV_MISUSE,
                   "this connection was opened by pid %u and carried across "
                   "fork()",
                   store->pid);
}

int skv_handle_check_write(const stratakv_store *store, skv_err *err) {
  int rc = skv_handle_check(store, err);
  if (rc != STRATAKV_OK || !store->read_only) return rc;
  return SKV_ERROR(err, STRATAKV_READONLY, "the store was opened read-only");
}

int skv_check_key(uint32_t table, const void *key, size_t key_len,
                  skv_err *err) {
  if (table == 0 || table > STRATAKV_MAX_TABLES)
    return SKV_ERROR(err, STRATAKV_ERROR, "%u is no table", table);
  if (!key && key_len > 0) return SKV_ERROR(err, STRATAKV_ERROR, "key is NULL");
  if (key_len > STRATAKV_MAX_KEY)
    return SKV_ERROR(err, STRATAKV_TOOBIG, "key is %zu bytes, the limit is %u",
                     key_len, STRATAKV_MAX_KEY);
  return STRATAKV_OK;
}

/* Ids are given in order and never taken back. */
int skv_check_table(const stratakv_store *store, uint32_t table, skv_err *err) {
  skv_db *db = store->db;
  if (table != 0 && table <= skv_peek(&db->last_table)) return STRATAKV_OK;
  int rc = skv_head_follow(db, err); /* another process may have made it */
  if (rc != STRATAKV_OK) return rc;
  skv_state *state = skv_state_ref(db);
  size_t count = state->version->table_count;
  uint32_t last = count > 0 ? state->version->tables[count - 1].id : 0;
  skv_state_unref(state);
  if (table != 0 && table <= last) return STRATAKV_OK;
  return SKV_ERROR(err, STRATAKV_ERROR, "the store has no table %u", table);
}

int skv_check_value(const void *value, size_t value_len, skv_err *err) {
  if (!value && value_len > 0)
    return SKV_ERROR(err, STRATAKV_ERROR, "value is NULL");
  if (value_len > STRATAKV_MAX_VALUE)
    return SKV_ERROR(err, STRATAKV_TOOBIG,
                     "value is %zu bytes, the limit is %u", value_len,
                     STRATAKV_MAX_VALUE);
  return STRATAKV_OK;
}

skv_slice skv_make_key(skv_buf *buf, uint32_t table, skv_slice user_key) {
  uint8_t *p = skv_buf_reserve(buf, SKV_TABLE_PREFIX + user_key.size);
  if (!p) return skv_slice_of(NULL, 0);
  p[0] = (uint8_t)(table >> 8);
  p[1] = (uint8_t)table;
  if (user_key.size) memcpy(p + SKV_TABLE_PREFIX, user_key.data, user_key.size);
  buf->size += SKV_TABLE_PREFIX + user_key.size;
  return skv_buf_bytes(buf);
}

skv_slice skv_make_key_in(uint8_t *space, size_t size, skv_buf *buf,
                          uint32_t table, skv_slice user_key) {
  size_t need = SKV_TABLE_PREFIX + user_key.size;
  if (need > size) return skv_make_key(buf, table, user_key);
  space[0] = (uint8_t)(table >> 8);
  space[1] = (uint8_t)table;
  if (user_key.size)
    memcpy(space + SKV_TABLE_PREFIX, user_key.data, user_key.size);
  return skv_slice_of(space, need);
}

/* ---- Opening ----------------------------------------------------------- */

void stratakv_options_init(stratakv_options *options) {
  *options = (stratakv_options){.busy_timeout_ms = 5000,
                                .memory = 32u << 20,
                                .compression = STRATAKV_COMPRESSION_LZ4,
                                .filter_bits = 10,
                                .background = 1,
                                .mmap = 1,
                                .wal_size = 64u << 20};
}

static int options_check(const stratakv_options *o, skv_err *err) {
  if (o->sync < STRATAKV_SYNC_FULL || o->sync > STRATAKV_SYNC_OFF)
    return SKV_ERROR(err, STRATAKV_ERROR, "option sync: %d is no mode",
                     o->sync);
  if (o->busy_timeout_ms > 600000)
    return SKV_ERROR(err, STRATAKV_ERROR,
                     "option busy_timeout must be 0 to 600000 ms, not %u",
                     o->busy_timeout_ms);
  if (o->memory < (4u << 20) || o->memory > (UINT64_C(64) << 30))
    return SKV_ERROR(err, STRATAKV_ERROR,
                     "option memory must be 4M to 64G, not %llu bytes",
                     (unsigned long long)o->memory);
  if (o->compression < 0 || o->compression > STRATAKV_COMPRESSION_ZSTD)
    return SKV_ERROR(err, STRATAKV_ERROR, "option compression: %d is none",
                     o->compression);
  if (o->filter_bits < 0 || o->filter_bits > 20)
    return SKV_ERROR(err, STRATAKV_ERROR,
                     "option filter_bits must be 0 to 20, not %d",
                     o->filter_bits);
  if (o->wal_size < (64u << 10) || o->wal_size > (1u << 30) ||
      o->wal_size % 4096 != 0)
    return SKV_ERROR(err, STRATAKV_ERROR,
                     "option wal_size must be 64K to 1G and a multiple of "
                     "4096, not %llu",
                     (unsigned long long)o->wal_size);
  return STRATAKV_OK;
}

int skv_open_in(skv_env *env, const char *path, const stratakv_options *options,
                skv_err *err, stratakv_store **out) {
  stratakv_options defaults;
  int rc = STRATAKV_OK;
  *out = NULL;
  if (!path || !*path) return SKV_ERROR(err, STRATAKV_ERROR, "no path");
  if (!options) {
    stratakv_options_init(&defaults);
    options = &defaults;
  }
  rc = options_check(options, err);
  if (rc != STRATAKV_OK) return rc;
  stratakv_store *store = skv_new(sizeof *store, &rc);
  if (rc != STRATAKV_OK) return skv_error_nomem(err);
  rc = skv_registry_open(env, path, options, err, &store->db);
  if (rc == STRATAKV_OK) {
    rc = skv_owners_apply(store->db, options, err);
    if (rc != STRATAKV_OK) skv_registry_close(store->db, NULL);
  }
  if (rc != STRATAKV_OK) {
    skv_free(store);
    return rc;
  }
  store->fork_generation = skv_fork_generation();
  store->pid = store->db->env->pid(store->db->env);
  store->read_only = options->read_only != 0;
  atomic_init(&store->timeout_ms, options->busy_timeout_ms);
  stratakv_set_sync(store, options->sync);
  *out = store;
  return rc;
}

int stratakv_open(const char *path, const stratakv_options *options,
                  stratakv_error *err, stratakv_store **out) {
#ifdef SKV_TEST
  return skv_open_in(skv_env_fault_asked(skv_env_posix()), path, options, err,
                     out);
#else
  return skv_open_in(skv_env_posix(), path, options, err, out);
#endif
}

int stratakv_close(stratakv_store *store, stratakv_error *err) {
  if (!store) return STRATAKV_OK;
  if (store->fork_generation != skv_fork_generation()) {
    skv_free(store); /* the parent's store is not ours to touch */
    return STRATAKV_OK;
  }
  uint32_t children = atomic_load(&store->children);
  if (children != 0)
    return SKV_ERROR(err, STRATAKV_MISUSE,
                     "%u cursors, snapshots or transactions are open",
                     children);
  int rc = skv_registry_close(store->db, err);
  skv_free(store);
  return rc;
}

int stratakv_set_sync(stratakv_store *store, int sync) {
  int rc = skv_handle_check(store, NULL);
  if (rc != STRATAKV_OK) return rc;
  if (sync < STRATAKV_SYNC_FULL || sync > STRATAKV_SYNC_OFF)
    return STRATAKV_ERROR;
  atomic_store(&store->sync, sync);
  if (sync == STRATAKV_SYNC_NORMAL)
    atomic_store(&store->db->sync_mode, STRATAKV_SYNC_NORMAL);
  return rc;
}

int stratakv_set_busy_timeout(stratakv_store *store, uint32_t ms) {
  int rc = skv_handle_check(store, NULL);
  if (rc != STRATAKV_OK) return rc;
  if (ms > 600000) return STRATAKV_ERROR;
  atomic_store(&store->timeout_ms, ms);
  return rc;
}

const char *stratakv_path(const stratakv_store *store) {
  return skv_store_info(store->db->store)->path;
}

/* ---- Tables ------------------------------------------------------------ */

static bool table_name_ok(const char *name) {
  size_t n = 0;
  for (; name[n]; n++) {
    char c = name[n];
    bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
    if (!letter && (n == 0 || c < '0' || c > '9')) return false;
  }
  return n > 0 && n <= STRATAKV_MAX_TABLE_NAME;
}

typedef struct table_turn {
  stratakv_table_info info; /* wanted; id filled in */
  bool mismatch;
} table_turn;

static int table_match(const stratakv_table_info *have, table_turn *turn) {
  if (turn->info.key_type != 0 && turn->info.key_type != have->key_type)
    turn->mismatch = true;
  turn->info = *have;
  return STRATAKV_OK;
}

static int table_build(void *arg, const skv_version *version, skv_buf *edit,
                       skv_err *err) {
  table_turn *turn = arg;
  const stratakv_table_info *have = skv_version_table(version, turn->info.name);
  if (have) return table_match(have, turn);
  uint32_t id = 1;
  if (version->table_count > 0)
    id = version->tables[version->table_count - 1].id + 1;
  if (id > STRATAKV_MAX_TABLES)
    return SKV_ERROR(err, STRATAKV_FULL, "the store has %u tables",
                     STRATAKV_MAX_TABLES);
  turn->info.id = id;
  if (turn->info.key_type == 0) turn->info.key_type = STRATAKV_KEY_TEXT;
  skv_edit_table(edit, &turn->info);
  return STRATAKV_OK;
}

int stratakv_table(stratakv_store *store, const char *name, int key_type,
                   int create, stratakv_error *err, stratakv_table_info *out) {
  memset(out, 0, sizeof *out);
  int rc = skv_handle_check(store, err);
  if (rc != STRATAKV_OK) return rc;
  if (!name || !table_name_ok(name))
    return SKV_ERROR(err, STRATAKV_ERROR, "\"%s\" is no table name",
                     name ? name : "");
  if (key_type < 0 || key_type > STRATAKV_KEY_INT)
    return SKV_ERROR(err, STRATAKV_ERROR, "%d is no key type", key_type);
  table_turn turn = {.info = {.key_type = key_type}};
  snprintf(turn.info.name, sizeof turn.info.name, "%s", name);
  skv_view view;
  rc = skv_view_take(store->db, err, &view);
  if (rc != STRATAKV_OK) return rc;
  const stratakv_table_info *have =
      skv_version_table(view.state->version, name);
  bool found = have != NULL;
  if (found) rc = table_match(have, &turn);
  skv_view_release(&view);
  if (!found && !create)
    return SKV_ERROR(err, STRATAKV_NOTFOUND, "no table \"%s\" in \"%s\"", name,
                     stratakv_path(store));
  if (!found) rc = skv_handle_check_write(store, err);
  if (rc == STRATAKV_OK && !found)
    rc = skv_head_edit(store->db, table_build, &turn, err);
  if (rc != STRATAKV_OK) return rc;
  *out = turn.info;
  if (!turn.mismatch) return rc;
  static const char *const names[] = {"", "text", "blob", "int"};
  return SKV_ERROR(err, STRATAKV_CONSTRAINT,
                   "table \"%s\" in \"%s\" has key=%s", name,
                   stratakv_path(store), names[turn.info.key_type]);
}

int stratakv_tables(stratakv_store *store, stratakv_table_info *out,
                    size_t capacity, stratakv_error *err, size_t *count) {
  skv_view view;
  *count = 0;
  int rc = skv_handle_check(store, err);
  if (rc == STRATAKV_OK) rc = skv_view_take(store->db, err, &view);
  if (rc != STRATAKV_OK) return rc;
  const skv_version *version = view.state->version;
  for (size_t i = 0; i < version->table_count && i < capacity; i++)
    out[i] = version->tables[i];
  *count = version->table_count;
  skv_view_release(&view);
  return rc;
}

/* ---- Snapshots and reads ----------------------------------------------- */

int stratakv_snapshot_open(stratakv_store *store, stratakv_error *err,
                           stratakv_snapshot **out) {
  *out = NULL;
  int rc = skv_handle_check(store, err);
  if (rc != STRATAKV_OK) return rc;
  stratakv_snapshot *snapshot = skv_new(sizeof *snapshot, &rc);
  if (rc != STRATAKV_OK) return skv_error_nomem(err);
  snapshot->store = store;
  rc = skv_view_take(store->db, err, &snapshot->view);
  if (rc != STRATAKV_OK) {
    skv_free(snapshot);
    return rc;
  }
  atomic_fetch_add(&store->children, 1);
  *out = snapshot;
  return rc;
}

void stratakv_snapshot_close(stratakv_snapshot *snapshot) {
  if (!snapshot) return;
  if (skv_handle_check(snapshot->store, NULL) == STRATAKV_OK) {
    skv_view_release(&snapshot->view);
    atomic_fetch_sub(&snapshot->store->children, 1);
  }
  skv_free(snapshot);
}

uint64_t stratakv_snapshot_lsn(const stratakv_snapshot *snapshot) {
  return snapshot->view.lsn;
}

void stratakv_value_clear(stratakv_value *value) {
  skv_free(value->data);
  memset(value, 0, sizeof *value);
}

int skv_value_set(stratakv_value *value, skv_slice bytes, uint64_t version,
                  skv_err *err) {
  if (bytes.size > value->capacity || !value->data) {
    size_t capacity = bytes.size < 64 ? 64 : bytes.size;
    void *data = skv_malloc(capacity);
    if (!data) return skv_error_nomem(err);
    skv_free(value->data);
    value->data = data;
    value->capacity = capacity;
  }
  if (bytes.size) memcpy(value->data, bytes.data, bytes.size);
  value->size = bytes.size;
  value->version = version;
  return STRATAKV_OK;
}

static int get_from(const skv_view *view, skv_db *db, uint32_t table,
                    skv_slice key, skv_err *err, stratakv_value *value) {
  uint8_t space[256];
  skv_buf buf = {0};
  skv_found found = {0};
  skv_slice internal = skv_make_key_in(space, sizeof space, &buf, table, key);
  int rc = buf.rc == STRATAKV_OK ? STRATAKV_OK : skv_error_nomem(err);
  if (rc == STRATAKV_OK) rc = skv_view_get(view, internal, 0, err, &found);
  if (rc == STRATAKV_OK &&
      (!found.found || found.entry.kind == SKV_KIND_DELETE))
    rc = STRATAKV_NOTFOUND;
  if (rc == STRATAKV_OK && value)
    rc = skv_value_set(value, found.entry.value, found.entry.lsn, err);
  skv_found_release(db, &found);
  skv_buf_clear(&buf);
  return rc;
}

int stratakv_get(stratakv_store *store, const stratakv_snapshot *snapshot,
                 uint32_t table, const void *key, size_t key_len,
                 stratakv_error *err, stratakv_value *value) {
  int rc = skv_handle_check(store, err);
  if (rc == STRATAKV_OK) rc = skv_check_key(table, key, key_len, err);
  if (rc == STRATAKV_OK) rc = skv_check_table(store, table, err);
  if (rc != STRATAKV_OK) return rc;
  skv_slice user = skv_slice_of(key, key_len);
  if (snapshot)
    return get_from(&snapshot->view, store->db, table, user, err, value);
  skv_view view;
  rc = skv_view_take(store->db, err, &view);
  if (rc != STRATAKV_OK) return rc;
  rc = get_from(&view, store->db, table, user, err, value);
  skv_view_release(&view);
  return rc;
}

#define MAINTENANCE_MS 600000u /* waiting for another process's flush, merge */
#define MAINTENANCE_NS (MAINTENANCE_MS * UINT64_C(1000000))

/* ---- Maintenance ------------------------------------------------------- */

int stratakv_flush(stratakv_store *store, stratakv_error *err) {
  int rc = skv_handle_check_write(store, err);
  if (rc != STRATAKV_OK) return rc;
  return skv_flush_all(store->db, MAINTENANCE_MS, err);
}

int stratakv_compact(stratakv_store *store, stratakv_progress progress,
                     void *arg, stratakv_error *err) {
  int rc = skv_handle_check_write(store, err);
  if (rc == STRATAKV_OK) rc = skv_flush_all(store->db, MAINTENANCE_MS, err);
  uint64_t slices = 0;
  uint64_t end = store->db->env->now(store->db->env) + MAINTENANCE_NS;
  bool did = true;
  while (rc == STRATAKV_OK && did) {
    /* How many slices remain is not known: the figure only grows towards 1. */
    if (progress && progress(arg, 1.0 - 1.0 / (double)(slices + 1)) != 0)
      return SKV_ERROR(err, STRATAKV_INTERRUPT, "interrupted");
    rc = skv_compact_step(store->db, true, &did, err);
    slices++;
    if (rc == STRATAKV_BUSY && store->db->env->now(store->db->env) < end) {
      store->db->env->sleep(store->db->env, 1000000); /* another is at it */
      rc = STRATAKV_OK;
      did = true;
    }
  }
  if (rc == STRATAKV_OK && progress) (void)progress(arg, 1.0);
  return rc;
}
