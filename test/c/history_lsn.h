/*
 * The checker that believes LSNs.
 *
 *   1  No two commits have one LSN, and none is below what was known before it
 *      began: an LSN acknowledged, a version or a snapshot seen, by whomever.
 *   2  All reads of one operation are true of one moment S: each is the newest
 *      version below S, and S is above everything known before it began.
 *   3  Between what a commit says that it saw of a key and its own LSN nobody
 *      wrote that key. Conditions held at the moment of the commit.
 *   4  A conflict or a refused condition had a reason.
 *   5  What was read was written, by a commit, as its final value.
 *
 * "Known" is the floor: time is walked through once, invocations take the
 * floor of their moment, returns raise it.
 */
#ifndef TEST_C_HISTORY_LSN_H
#define TEST_C_HISTORY_LSN_H

#include <stdlib.h>

#include "test/c/history.h"

/* One committed version of a key. */
typedef struct lsn_version {
  uint64_t lsn;
  uint32_t key, value;
  const history_op *op;
} lsn_version;

typedef struct lsn_event {
  uint64_t time;
  bool is_return, is_commit;
  const history_op *op;
  size_t index; /* of the operation, for its floor */
} lsn_event;

typedef struct lsn_checker {
  const history *h;
  lsn_version *versions; /* by key, then LSN */
  size_t count;
  size_t first[HISTORY_KEYS + 1];
  lsn_event *events;
  uint64_t *floors; /* of each operation when it began to read */
} lsn_checker;

static int lsn_compare_versions(const void *a, const void *b) {
  const lsn_version *x = a, *y = b;
  if (x->key != y->key) return x->key < y->key ? -1 : 1;
  return x->lsn < y->lsn ? -1 : x->lsn > y->lsn;
}

/* Invocations before returns of the same nanosecond: less is known then. */
static int lsn_compare_events(const void *a, const void *b) {
  const lsn_event *x = a, *y = b;
  if (x->time != y->time) return x->time < y->time ? -1 : 1;
  return x->is_return - y->is_return;
}

static void *history_alloc(size_t count, size_t size) {
  void *p = calloc(count ? count : 1, size);
  if (p == NULL) abort();
  return p;
}

static void lsn_collect(lsn_checker *c) {
  const history *h = c->h;
  size_t accesses = 0;
  for (unsigned t = 0; t < h->threads; t++) accesses += h->logs[t].accesses;
  c->versions = history_alloc(accesses, sizeof *c->versions);
  for (unsigned t = 0; t < h->threads; t++)
    for (uint32_t i = 0; i < h->logs[t].ops; i++) {
      const history_op *op = &h->logs[t].op[i];
      const history_access *a = history_accesses(h, op);
      for (uint32_t n = 0; op->writes && n < op->count; n++)
        if ((a[n].flags & (ACCESS_WRITE | ACCESS_HIDDEN)) == ACCESS_WRITE)
          c->versions[c->count++] =
              (lsn_version){op->lsn, a[n].key, a[n].value, op};
    }
  qsort(c->versions, c->count, sizeof *c->versions, lsn_compare_versions);
  size_t at = 0;
  for (uint32_t k = 0; k <= h->keys; k++) {
    while (at < c->count && c->versions[at].key < k) at++;
    c->first[k] = at;
  }
  for (size_t i = 1; i < c->count; i++)
    if (c->versions[i].key == c->versions[i - 1].key &&
        c->versions[i].lsn == c->versions[i - 1].lsn)
      history_fault(h, "two commits of one key have one LSN", c->versions[i].op,
                    c->versions[i - 1].op);
}

/* The first version of the key with an LSN of at least lsn, or NULL. */
static const lsn_version *lsn_at_least(const lsn_checker *c, uint32_t key,
                                       uint64_t lsn) {
  size_t low = c->first[key], end = c->first[key + 1], high = end;
  while (low < high) {
    size_t mid = low + (high - low) / 2;
    if (c->versions[mid].lsn < lsn)
      low = mid + 1;
    else
      high = mid;
  }
  return low < end ? &c->versions[low] : NULL;
}

/* The newest version below lsn, or NULL. */
static const lsn_version *lsn_below(const lsn_checker *c, uint32_t key,
                                    uint64_t lsn) {
  const lsn_version *v = lsn_at_least(c, key, lsn);
  const lsn_version *first = &c->versions[c->first[key]];
  if (v == NULL) v = &c->versions[c->first[key + 1]];
  return v > first ? v - 1 : NULL;
}

/* ---- Reads ------------------------------------------------------------- */

/* Whether the version is the one that was read (absent: 0). */
static bool lsn_is_same(const lsn_version *v, const history_access *a) {
  if (a->flags & ACCESS_PRESENT) return v != NULL && v->value != 0;
  if (a->version == 0) return v == NULL || v->value == 0;
  if (v == NULL || v->lsn != a->version) return false;
  return (a->flags & ACCESS_VERSION) ? v->value != 0 : v->value == a->value;
}

/* The least moment from `low` on of which all reads are true; 0 if none. */
static uint64_t lsn_moment(const lsn_checker *c, const history_op *op,
                           uint64_t low) {
  const history_access *a = history_accesses(c->h, op);
  bool moved = true;
  while (moved) {
    moved = false;
    for (uint32_t i = 0; i < op->count; i++) {
      if (!(a[i].flags & ACCESS_READ)) continue;
      const lsn_version *v = lsn_below(c, a[i].key, low);
      if (lsn_is_same(v, &a[i])) continue;
      /* The next version of the key is the next chance. */
      v = lsn_at_least(c, a[i].key, low);
      if (v == NULL || (a[i].version != 0 && v->lsn > a[i].version)) return 0;
      low = v->lsn + 1;
      moved = true;
    }
  }
  return low;
}

/* Conditions of a batch are reads at its LSN. */
static uint64_t lsn_check_reads(const lsn_checker *c, const history_op *op,
                                uint64_t floor) {
  uint64_t low = op->snapshot ? op->snapshot : floor;
  if (op->is_atomic && op->end == OP_DONE) low = op->lsn;
  if (low < floor)
    history_fault(c->h, "read at a moment before what was known", op, NULL);
  uint64_t s = lsn_moment(c, op, low);
  if (s == 0 ||
      ((op->snapshot || (op->is_atomic && op->end == OP_DONE)) && s != low)) {
    history_fault(c->h, "no one moment at which all this was true", op, NULL);
    const history_access *a = history_accesses(c->h, op);
    for (uint32_t i = 0; i < op->count && check_failures <= 5; i++) {
      const lsn_version *v = lsn_below(c, a[i].key, low);
      if ((a[i].flags & ACCESS_READ) && !lsn_is_same(v, &a[i])) {
        printf("  key %u below %llu is %u\n", a[i].key, (unsigned long long)low,
               v ? v->value : 0);
        if (v) history_print(c->h, v->op);
      }
    }
    return low;
  }
  return s;
}

/* ---- Commits ----------------------------------------------------------- */

static const history_access *lsn_read_of(const history *h, const history_op *op,
                                         uint32_t key) {
  const history_access *a = history_accesses(h, op);
  for (uint32_t i = 0; i < op->count; i++)
    if ((a[i].flags & ACCESS_READ) && a[i].key == key) return &a[i];
  return NULL;
}

/* P6: what it saw is what it replaced. */
static void lsn_check_commit(const lsn_checker *c, const history_op *op,
                             uint64_t floor) {
  if (op->lsn < floor)
    history_fault(c->h, "LSN below what was known before the commit", op, NULL);
  const history_access *a = history_accesses(c->h, op);
  for (uint32_t i = 0; i < op->count; i++) {
    if (!(a[i].flags & ACCESS_WRITE) || !(a[i].flags & ACCESS_CHECKED))
      continue;
    const history_access *read = lsn_read_of(c->h, op, a[i].key);
    const lsn_version *v = lsn_below(c, a[i].key, op->lsn);
    if (read != NULL && !lsn_is_same(v, read))
      history_fault(c->h, "lost update", op, v ? v->op : NULL);
  }
}

/* A conflict needs a commit to a key that it read or changed, not known to be
 * older than what it read, and begun before the answer. */
static void lsn_check_conflict(const lsn_checker *c, const history_op *op,
                               uint64_t moment) {
  const history_access *a = history_accesses(c->h, op);
  for (uint32_t i = 0; i < op->count; i++) {
    if (!(a[i].flags & ACCESS_CHECKED) && !op->is_large) continue;
    const lsn_version *v = lsn_at_least(c, a[i].key, moment);
    size_t end = c->first[a[i].key + 1];
    for (; v != NULL && v < &c->versions[end]; v++)
      if (v->op->commit.invoked <= op->commit.returned) return;
  }
  history_fault(c->h, "conflict without a reason", op, NULL);
}

/* ---- Time -------------------------------------------------------------- */

static size_t lsn_events_of(lsn_event *out, const history_op *op,
                            size_t index) {
  size_t n = 0;
  if (op->reads) {
    out[n++] = (lsn_event){op->begin.invoked, false, false, op, index};
    out[n++] = (lsn_event){op->begin.returned, true, false, op, index};
  }
  if (op->writes) {
    out[n++] = (lsn_event){op->commit.invoked, false, true, op, index};
    out[n++] = (lsn_event){op->commit.returned, true, true, op, index};
  }
  return n;
}

/* commit_floor: that of the commit; a separate one, for transactions. */
static void lsn_walk(lsn_checker *c, size_t events, uint64_t *commit_floors) {
  uint64_t floor = 1;
  for (size_t i = 0; i < events; i++) {
    const lsn_event *e = &c->events[i];
    if (!e->is_return) {
      (e->is_commit ? commit_floors : c->floors)[e->index] = floor;
      continue;
    }
    uint64_t seen;
    if (e->is_commit) {
      lsn_check_commit(c, e->op, commit_floors[e->index]);
      seen = e->op->lsn + 1;
    } else {
      seen = lsn_check_reads(c, e->op, c->floors[e->index]);
      if (e->op->end == OP_CONFLICT) lsn_check_conflict(c, e->op, seen);
    }
    if (seen > floor) floor = seen;
  }
}

/* 1: also across keys. */
static void lsn_check_unique(const lsn_checker *c) {
  const history *h = c->h;
  size_t n = 0;
  for (unsigned t = 0; t < h->threads; t++) n += h->logs[t].ops;
  lsn_version *all = history_alloc(n, sizeof *all);
  n = 0;
  for (unsigned t = 0; t < h->threads; t++)
    for (uint32_t i = 0; i < h->logs[t].ops; i++)
      if (h->logs[t].op[i].writes)
        all[n++] = (lsn_version){h->logs[t].op[i].lsn, 0, 0, &h->logs[t].op[i]};
  qsort(all, n, sizeof *all, lsn_compare_versions);
  for (size_t i = 0; i < n; i++) {
    if (all[i].lsn == 0)
      history_fault(h, "a commit without an LSN", all[i].op, NULL);
    if (i > 0 && all[i].lsn == all[i - 1].lsn)
      history_fault(h, "two commits have one LSN", all[i].op, all[i - 1].op);
  }
  free(all);
}

static void history_check_lsn(const history *h) {
  lsn_checker c = {.h = h};
  size_t ops = 0, events = 0, index = 0;
  for (unsigned t = 0; t < h->threads; t++) ops += h->logs[t].ops;
  lsn_collect(&c);
  lsn_check_unique(&c);
  c.events = history_alloc(ops * 4, sizeof *c.events);
  c.floors = history_alloc(ops, sizeof *c.floors);
  uint64_t *commit_floors = history_alloc(ops, sizeof *commit_floors);
  for (unsigned t = 0; t < h->threads; t++)
    for (uint32_t i = 0; i < h->logs[t].ops; i++)
      events += lsn_events_of(c.events + events, &h->logs[t].op[i], index++);
  qsort(c.events, events, sizeof *c.events, lsn_compare_events);
  lsn_walk(&c, events, commit_floors);
  free(commit_floors);
  free(c.floors);
  free(c.events);
  free(c.versions);
}

#endif
