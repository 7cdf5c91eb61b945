/*
 * Figures about an open store, and estimates.
 */
#include "engine/db/handle.h"

typedef struct stats_out {
  stratakv_stat stat;
  void *arg;
  int stopped;
} stats_out;

static void stats_one(stats_out *out, const char *name, double value,
                      const char *unit, const char *help) {
  if (!out->stopped)
    out->stopped = out->stat(out->arg, name, value, unit, help);
}

typedef struct stats_tree {
  double segments, bytes, entries, tombstones, raw;
} stats_tree;

static void stats_add_run(stats_tree *tree, const skv_run *run) {
  for (size_t i = 0; i < run->count; i++) {
    const skv_seg_meta *meta = &run->segs[i]->meta;
    tree->segments++;
    tree->bytes += (double)meta->size;
    tree->entries += (double)meta->entries;
    tree->tombstones += (double)meta->tombstones;
    tree->raw += (double)meta->raw_bytes;
  }
}

static void stats_of_tree(stats_out *out, const skv_version *version) {
  stats_tree tree = {0};
  for (size_t i = 0; i < version->run_count; i++)
    stats_add_run(&tree, &version->runs[i]);
  for (int i = 1; i < SKV_LEVELS; i++)
    stats_add_run(&tree, &version->levels[i]);
  stats_one(out, "stratakv_segments", tree.segments, "count",
            "segment files of the newest version");
  stats_one(out, "stratakv_segment_bytes", tree.bytes, "bytes", "their size");
  stats_one(out, "stratakv_entries", tree.entries, "count",
            "entries in segments, dead ones included");
  stats_one(out, "stratakv_tombstones", tree.tombstones, "count",
            "tombstones in segments");
  stats_one(out, "stratakv_raw_bytes", tree.raw, "bytes",
            "key and value bytes in segments before compression");
  stats_one(out, "stratakv_level0_runs", (double)version->run_count, "count",
            "runs at level 0");
  stats_one(out, "stratakv_unflushed_logs", (double)version->wal_count, "count",
            "logs not yet in segments, the active one included");
}

static void stats_of_memory(stats_out *out, skv_db *db,
                            const skv_state *state) {
  uint64_t bytes, hits, misses;
  double index = 0;
  for (size_t i = 0; i < state->log_count; i++)
    index += (double)skv_mem_memory(state->logs[i]->mem);
  skv_cache_stats(db->tree.cache, &bytes, &hits, &misses);
  stats_one(out, "stratakv_memory_limit_bytes", (double)db->options.memory,
            "bytes", "option memory of the first opener");
  stats_one(out, "stratakv_memtable_bytes", index, "bytes",
            "memory of the MemTable indexes");
  stats_one(out, "stratakv_cache_bytes", (double)bytes, "bytes",
            "memory of the block cache");
  stats_one(out, "stratakv_cache_hits_total", (double)hits, "count",
            "blocks found in the cache");
  stats_one(out, "stratakv_cache_misses_total", (double)misses, "count",
            "blocks read and decoded");
}

static void stats_of_counters(stats_out *out, skv_db *db) {
  skv_counters *c = &db->counters;
  stats_one(out, "stratakv_commits_total", (double)atomic_load(&c->commits),
            "count", "commits by this process");
  stats_one(out, "stratakv_wal_syncs_total", (double)atomic_load(&c->syncs),
            "count", "syncs of the log by this process");
  stats_one(out, "stratakv_wal_bytes_total", (double)atomic_load(&c->wal_bytes),
            "bytes", "bytes appended to the log by this process");
  stats_one(out, "stratakv_conflicts_total", (double)atomic_load(&c->conflicts),
            "count", "commits refused with BUSY_SNAPSHOT");
  stats_one(out, "stratakv_busy_total", (double)atomic_load(&c->busy), "count",
            "waits that ended with BUSY");
  stats_one(out, "stratakv_flushes_total", (double)atomic_load(&c->flushes),
            "count", "logs flushed by this process");
  stats_one(out, "stratakv_compaction_slices_total",
            (double)atomic_load(&c->compactions), "count",
            "compaction slices published by this process");
  stats_one(out, "stratakv_compaction_written_bytes_total",
            (double)atomic_load(&c->compact_bytes), "bytes",
            "bytes that its compactions wrote");
  stats_one(out, "stratakv_torn_tails_total",
            (double)atomic_load(&c->torn_tails), "count",
            "ends of a log that this process dropped when it recovered it");
  stats_one(out, "stratakv_stall_seconds_total",
            (double)atomic_load(&c->stall_ns) / 1e9, "seconds",
            "time that commits waited for flush or compaction");
}

int stratakv_stats(stratakv_store *store, stratakv_stat stat, void *arg,
                   stratakv_error *err) {
  skv_view view;
  int rc = skv_handle_check(store, err);
  if (rc == STRATAKV_OK) rc = skv_view_take(store->db, err, &view);
  if (rc != STRATAKV_OK) return rc;
  skv_db *db = store->db;
  stats_out out = {stat, arg, 0};
  skv_picker_limits limits;
  skv_picker_limits_of(db, view.state->version, &limits);
  bool is_read_only = skv_peek(&db->shared->fence) != 0 ||
                      skv_write_look(db, NULL) != STRATAKV_OK;
  stats_one(&out, "stratakv_read_only", is_read_only ? 1 : 0, "bool",
            "1 after a failed sync, until every process has closed");
  stats_one(&out, "stratakv_stalled", skv_stall_now(db) ? 1 : 0, "bool",
            "1 while commits wait for flush or compaction");
  stats_one(&out, "stratakv_visible_lsn", (double)view.lsn, "bytes",
            "place in the log that readers see");
  stats_one(&out, "stratakv_durable_lsn",
            (double)skv_peek(&db->shared->durable), "bytes",
            "place in the log below which everything is synced");
  stats_of_tree(&out, view.state->version);
  stats_one(&out, "stratakv_compaction_pending_bytes",
            (double)skv_pick_debt(view.state->version, &limits), "bytes",
            "what compaction is behind");
  stats_of_memory(&out, db, view.state);
  stats_of_counters(&out, db);
  skv_view_release(&view);
  return STRATAKV_OK;
}

/* ---- Estimates --------------------------------------------------------- */

static int estimate_run(skv_db *db, const skv_run *run, const skv_slice *start,
                        const skv_slice *end, skv_err *err, uint64_t *entries,
                        uint64_t *bytes) {
  for (size_t i = 0; i < run->count; i++) {
    skv_segref *ref = run->segs[i];
    skv_seg *seg;
    uint64_t e = 0, b = 0;
    if (skv_compare(ref->meta.max_key, *start) < 0 ||
        skv_compare(ref->meta.min_key, *end) >= 0)
      continue;
    int rc = skv_segref_get(&db->tree, ref, err, &seg);
    if (rc != STRATAKV_OK) return rc;
    skv_seg_estimate(seg, start, end, &e, &b);
    *entries += e;
    *bytes += b;
  }
  return STRATAKV_OK;
}

/* Logs are not counted by key: their bytes are taken as if spread evenly over
 * entries of 128 bytes, for an open range only; a narrower one is judged by
 * the segments. */
static void estimate_log(const skv_view *view, const skv_memlog *log,
                         bool is_open, uint64_t *entries, uint64_t *bytes) {
  uint64_t n = skv_memlog_limit(log, view->lsn) - SKV_WAL_HEADER;
  if (!is_open) n /= 4;
  *entries += n / 128;
  *bytes += n;
}

int stratakv_estimate(stratakv_store *store, uint32_t table, const void *start,
                      size_t start_len, const void *end, size_t end_len,
                      stratakv_error *err, uint64_t *entries, uint64_t *bytes) {
  *entries = *bytes = 0;
  skv_view view;
  int rc = skv_handle_check(store, err);
  if (rc == STRATAKV_OK) rc = skv_check_key(table, start, start_len, err);
  if (rc == STRATAKV_OK) rc = skv_view_take(store->db, err, &view);
  if (rc != STRATAKV_OK) return rc;
  skv_buf low = {0}, high = {0};
  skv_slice from = skv_make_key(&low, table, skv_slice_of(start, start_len));
  skv_slice to = end ? skv_make_key(&high, table, skv_slice_of(end, end_len))
                     : skv_make_key(&high, table + 1, skv_slice_of(NULL, 0));
  if (low.rc != STRATAKV_OK || high.rc != STRATAKV_OK)
    rc = skv_error_nomem(err);
  for (size_t i = 0; rc == STRATAKV_OK && i < view.state->source_count; i++) {
    skv_source *source = &view.state->sources[i];
    if (source->log)
      estimate_log(&view, source->log, !start && !end, entries, bytes);
    else
      rc =
          estimate_run(store->db, source->run, &from, &to, err, entries, bytes);
  }
  skv_buf_clear(&low);
  skv_buf_clear(&high);
  skv_view_release(&view);
  return rc;
}
