/*
 * The registry: one skv_db per directory in a process, whatever path led to
 * it. Its mutex is held while a store is opened or closed, so two threads
 * cannot open one directory twice. It is the environment's, which is what
 * makes a process.
 */
#include <stdlib.h>

#include "engine/db/handle.h"
#include "engine/util/point.h"

/* Handles from before a fork are the parent's: forget them, they are never
 * touched again (their lock descriptors were closed in the child). */
static void registry_check_fork(skv_env *env) {
  uint32_t generation = skv_fork_generation();
  if (generation != env->registry.generation) env->registry.list = NULL;
  env->registry.generation = generation;
}

static void db_init(skv_db *db) {
  skv_mutex_init(&db->head_mutex);
  skv_mutex_init(&db->state_mutex);
  skv_mutex_init(&db->pin_mutex);
  skv_mutex_init(&db->commit_mutex);
  skv_mutex_init(&db->work_mutex);
  skv_mutex_init(&db->flush_mutex);
  skv_mutex_init(&db->compact_mutex);
  skv_cond_init(&db->lead_cond);
  skv_cond_init(&db->gather_cond);
  skv_cond_init(&db->work_cond);
  skv_cond_init(&db->progress_cond);
  db->queue_end = &db->queue;
  atomic_init(&db->sync_mode, STRATAKV_SYNC_OFF);
}

static void db_free(skv_db *db) {
  skv_ingest_forget(db);
  skv_state_unref(db->state);
  skv_memlog_unref(db->active);
  skv_buf_clear(&db->record);
  if (db->tree.cache) skv_cache_free(db->tree.cache);
  if (db->is_private) skv_free(db->shared);
  skv_store_close(db->store);
  skv_mutex_clear(&db->head_mutex);
  skv_mutex_clear(&db->state_mutex);
  skv_mutex_clear(&db->pin_mutex);
  skv_mutex_clear(&db->commit_mutex);
  skv_mutex_clear(&db->work_mutex);
  skv_mutex_clear(&db->flush_mutex);
  skv_mutex_clear(&db->compact_mutex);
  skv_cond_clear(&db->lead_cond);
  skv_cond_clear(&db->gather_cond);
  skv_cond_clear(&db->work_cond);
  skv_cond_clear(&db->progress_cond);
  skv_free(db);
}

/* Refuse before anything is written: what is there, and may we? */
static int db_inspect(skv_store *store, bool create, skv_err *err) {
  const skv_dir_info *info = skv_store_info(store);
  uint8_t id[16];
  uint64_t manifest;
  int probe;
  if (info->is_network)
    return SKV_ERROR(err, STRATAKV_CANTOPEN,
                     "\"%s\" is on a network file system", info->path);
  int rc = skv_store_probe(store, err, &probe);
  if (rc != STRATAKV_OK) return rc;
  if (probe == SKV_PROBE_FOREIGN)
    return SKV_ERROR(err, STRATAKV_CANTOPEN,
                     "\"%s\" is neither empty nor a StrataKV store",
                     info->path);
  if (probe == SKV_PROBE_STORE)
    return skv_head_current(store, err, id, &manifest);
  return create ? STRATAKV_OK
                : SKV_ERROR(err, STRATAKV_CANTOPEN, "no store at \"%s\"",
                            info->path);
}

/* Half of the memory is for MemTables, the rest for blocks, but for what
 * batches and buffers take. */
static uint64_t db_cache_bytes(const stratakv_options *options) {
  return options->memory * 3 / 8;
}

/* Sizes of what is written, in proportion to the log. Test builds may shrink
 * all of it from outside. */
static void db_sizes(skv_db *db) {
#ifdef SKV_TEST
  const char *wal = getenv("SKV_TEST_WAL_SIZE");
  if (wal) db->options.wal_size = strtoull(wal, NULL, 10);
#endif
  db->block_size = SKV_SEG_BLOCK_SIZE;
  db->segment_bytes = SKV_SEGMENT_BYTES;
  if (db->options.wal_size < SKV_SEGMENT_BYTES)
    db->segment_bytes = db->options.wal_size;
  db->segment_bytes = skv_disk_segment_bytes(db, db->segment_bytes);
  if (db->options.wal_size < (1u << 20)) db->block_size = 512;
  db->head_roll = SKV_HEAD_ROLL;
#ifdef SKV_TEST
  const char *block = getenv("SKV_TEST_BLOCK_SIZE");
  const char *segment = getenv("SKV_TEST_SEGMENT_SIZE");
  if (block) db->block_size = (uint32_t)strtoul(block, NULL, 10);
  if (segment) db->segment_bytes = strtoull(segment, NULL, 10);
  const char *roll = getenv("SKV_TEST_HEAD_ROLL");
  if (roll) db->head_roll = strtoull(roll, NULL, 10);
#endif
}

static int db_start(skv_db *db, const stratakv_options *options, skv_err *err) {
  db->options = *options;
  db->options.base = db->options.owner = NULL;
  db_sizes(db);
  db->tree.store = db->store;
  db->tree.map = options->mmap != 0;
  db->tree.cache = skv_cache_new(db_cache_bytes(options));
  if (!db->tree.cache) return skv_error_nomem(err);
  int rc =
      skv_db_attach(db, options->create != 0, options->busy_timeout_ms, err);
  return rc == STRATAKV_OK ? skv_work_start(db, err) : rc;
}

static skv_db *registry_find(skv_env *env, const skv_dir_info *info,
                             bool read_only) {
  for (skv_db *db = env->registry.list; db; db = db->registry_next)
    if (db->device == info->device && db->inode == info->inode &&
        (read_only || !db->options.read_only))
      return db;
  return NULL;
}

/* A new skv_db on an open store, which it takes over. */
static int registry_add(skv_env *env, bool env_owned, skv_store *store,
                        const stratakv_options *options, skv_err *err,
                        skv_db **out) {
  int rc = STRATAKV_OK;
  skv_db *db = skv_new(sizeof *db, &rc);
  if (rc != STRATAKV_OK) {
    skv_store_close(store);
    return skv_error_nomem(err);
  }
  db_init(db);
  db->env = env;
  db->env_owned = env_owned;
  db->store = store;
  db->device = skv_store_info(store)->device;
  db->inode = skv_store_info(store)->inode;
  rc = db_start(db, options, err);
  if (rc != STRATAKV_OK) {
    skv_work_stop(db);
    db_free(db);
    return rc;
  }
  db->handles = 1;
  db->registry_next = env->registry.list;
  env->registry.list = db;
  *out = db;
  return rc;
}

static int registry_open_locked(skv_env *env, bool env_owned, const char *path,
                                const stratakv_options *options, skv_err *err,
                                skv_db **out) {
  skv_store *store = NULL;
  int flags = options->create ? SKV_DIR_CREATE : 0;
  if (options->base && path[0] != '/') flags |= SKV_DIR_BENEATH;
  int rc = skv_store_open(env, options->base, path, flags, err, &store);
  if (rc != STRATAKV_OK) return rc;
  skv_db *db =
      registry_find(env, skv_store_info(store), options->read_only != 0);
  if (db) {
    skv_store_close(store);
    db->handles++;
    *out = db;
    return STRATAKV_OK;
  }
  rc = db_inspect(store, options->create != 0, err);
  if (rc == STRATAKV_OK) rc = skv_owners_require(store, options, err);
  if (rc != STRATAKV_OK) {
    skv_store_close(store);
    return rc;
  }
  return registry_add(env, env_owned, store, options, err, out);
}

static int registry_open(skv_env *env, bool env_owned, const char *path,
                         const stratakv_options *options, skv_err *err,
                         skv_db **out) {
  skv_mutex_lock(&env->registry.mutex);
  registry_check_fork(env);
  int rc = registry_open_locked(env, env_owned, path, options, err, out);
  skv_mutex_unlock(&env->registry.mutex);
  return rc;
}

/* ":memory:" is a store of its own in an environment of its own. */
static int registry_open_memory(const stratakv_options *options, skv_err *err,
                                skv_db **out) {
  stratakv_options own = *options;
  own.base = NULL;
  own.create = 1;
  skv_env *env = skv_env_mem_new();
  if (!env) return skv_error_nomem(err);
  int rc = registry_open(env, true, "/store", &own, err, out);
  if (rc != STRATAKV_OK) skv_env_mem_free(env);
  return rc;
}

int skv_registry_open(skv_env *env, const char *path,
                      const stratakv_options *options, skv_err *err,
                      skv_db **out) {
  *out = NULL;
  return strcmp(path, ":memory:") == 0
             ? registry_open_memory(options, err, out)
             : registry_open(env, false, path, options, err, out);
}

int skv_registry_close(skv_db *db, skv_err *err) {
  int rc = STRATAKV_OK;
  skv_env *env = db->env;
  bool env_goes = false;
  skv_mutex_lock(&env->registry.mutex);
  if (--db->handles == 0) {
    skv_db **at = &env->registry.list;
    while (*at != db) at = &(*at)->registry_next;
    *at = db->registry_next;
    skv_work_stop(db);
    SKV_POINT("close.stopped");
    env_goes = db->env_owned;
    rc = skv_db_detach(db, err);
    db_free(db);
  }
  skv_mutex_unlock(&env->registry.mutex);
  if (env_goes) skv_env_mem_free(env);
  return rc;
}
