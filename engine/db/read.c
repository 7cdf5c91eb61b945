/*
 * Reading a view: point lookups over its sources, and the iterators of them.
 */
#include "engine/db/db.h"
#include "engine/util/hash.h"

static int read_log(const skv_view *view, skv_memlog *log, skv_slice key,
                    uint64_t hash, skv_err *err, skv_found *found) {
  uint64_t limit = skv_memlog_limit(log, view->lsn);
  if (limit <= SKV_WAL_HEADER) return STRATAKV_OK;
  int rc = skv_mem_catch_up(log->mem, limit, err);
  if (rc != STRATAKV_OK) return rc;
  return skv_mem_get(log->mem, key, hash, limit, err, &found->found,
                     &found->entry);
}

int skv_view_get(const skv_view *view, skv_slice key, uint64_t min_lsn,
                 skv_err *err, skv_found *found) {
  skv_state *state = view->state;
  uint64_t hash = skv_hash(key);
  found->found = false;
  for (size_t i = 0; i < state->source_count; i++) {
    skv_source *source = &state->sources[i];
    int rc = STRATAKV_OK;
    if (source->log) {
      uint64_t end = skv_peek(&source->log->end);
      if (end != 0 && end <= min_lsn) continue;
      rc = read_log(view, source->log, key, hash, err, found);
    } else if (source->run->max_lsn >= min_lsn) {
      rc = skv_run_get(&state->db->tree, source->run, key, hash, &found->pin,
                       err, &found->found, &found->entry);
    }
    if (rc != STRATAKV_OK || found->found) return rc;
  }
  return STRATAKV_OK;
}

void skv_found_release(skv_db *db, skv_found *found) {
  skv_seg_pin_clear(db->tree.cache, &found->pin);
}

int skv_iters_push(skv_iter ***list, size_t *count, size_t *capacity,
                   skv_iter *it, skv_err *err) {
  if (*count == *capacity) {
    size_t more = *capacity ? *capacity * 2 : 8;
    skv_iter **grown = skv_realloc(*list, more * sizeof *grown);
    if (!grown) {
      skv_iter_close(it);
      return skv_error_nomem(err);
    }
    *list = grown;
    *capacity = more;
  }
  (*list)[(*count)++] = it;
  return STRATAKV_OK;
}

void skv_iters_close(skv_iter **list, size_t count) {
  for (size_t i = 0; i < count; i++) skv_iter_close(list[i]);
  skv_free(list);
}

int skv_view_iters(const skv_view *view, bool keys_only, skv_iter ***list,
                   size_t *count, size_t *capacity, skv_err *err) {
  skv_state *state = view->state;
  for (size_t i = 0; i < state->source_count; i++) {
    skv_source *source = &state->sources[i];
    skv_iter *it = NULL;
    int rc;
    if (source->log) {
      uint64_t limit = skv_memlog_limit(source->log, view->lsn);
      if (limit <= SKV_WAL_HEADER) continue;
      rc = skv_mem_iter_new(source->log->mem, limit, err, &it);
    } else {
      rc = skv_run_iter_new(&state->db->tree, state->version, source->run,
                            keys_only, err, &it);
    }
    if (rc == STRATAKV_OK) rc = skv_iters_push(list, count, capacity, it, err);
    if (rc != STRATAKV_OK) return rc;
  }
  return STRATAKV_OK;
}
