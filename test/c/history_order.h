/*
 * The checker that believes nobody: no LSN, no version; only which value was
 * read, and when calls began and returned.
 *
 * GRAPH  Each operation has an event at which it read (B) and one at which its
 *   writes happened (C). Whatever must come before something else is an edge;
 *   one order of all events has to exist, so a cycle is a fault:
 *
 *     B before C                           a transaction reads first
 *     C of the writer before B of the reader
 *     B of a value's reader before C of each later value of the key
 *     C before C                           versions of one key, in their order
 *     what returned before what was begun later
 *
 *   This is snapshot isolation with real time. No G0, G1c, G-single, lost
 *   update, long fork, half-seen batch or stale read has such an order; write
 *   skew does. G1a and G1b (values of aborted operations, values that were
 *   overwritten within one) are found on the way.
 *
 * ORDER OF VERSIONS  of one key is not told, it follows: in one order of all
 *   events a value's write and its reads stand together, with no other write
 *   of the key between. So if anything that was done with value a returned
 *   before anything that was done with b was begun, a comes before b. A commit
 *   that checked its read (update of a to b) ties b to a, with nothing in
 *   between; tied values are one block, and what is true of one is true of
 *   all. A removal is a value that nobody is known to have read.
 */
#ifndef TEST_C_HISTORY_ORDER_H
#define TEST_C_HISTORY_ORDER_H

#include "test/c/history_lsn.h"

#define ORDER_NONE UINT32_MAX

/* One committed value of a key, or a removal. */
typedef struct order_value {
  uint32_t key, value; /* value 0: removed */
  const history_op *op;
  uint32_t commit;            /* event */
  uint64_t returned, invoked; /* first return, last invocation of all uses */
  uint32_t next;              /* tied behind it; ORDER_NONE */
  bool is_tied;               /* to one before */
  uint32_t end;               /* of a block's first: node behind its readers */
  uint32_t readers;           /* list of reads */
} order_value;

typedef struct order_read {
  uint32_t event, next;
} order_read;

typedef struct order_graph {
  const history *h;
  uint32_t *first; /* edges of each node, a list */
  uint32_t nodes;
  struct order_edge {
    uint32_t to, next;
  } * edges;
  uint32_t edge_count, edge_capacity;
  const history_op **op_of; /* NULL: a moment in time */
  uint32_t *begin, *commit; /* events of each operation */
  order_value *values;      /* by key */
  uint32_t value_count;
  uint32_t first_value[HISTORY_KEYS + 1];
  uint32_t *written; /* number of a value: where in values, or a mark */
  order_read *reads;
  uint32_t read_count;
} order_graph;

/* Marks in `written` of values that nobody may see. */
#define ORDER_NEVER UINT32_MAX
#define ORDER_ABORTED (UINT32_MAX - 1)
#define ORDER_HIDDEN (UINT32_MAX - 2)

static uint32_t order_node(order_graph *g, const history_op *op) {
  g->op_of[g->nodes] = op;
  g->first[g->nodes] = ORDER_NONE;
  return g->nodes++;
}

static void order_edge(order_graph *g, uint32_t from, uint32_t to) {
  if (g->edge_count == g->edge_capacity) {
    g->edge_capacity = g->edge_capacity ? g->edge_capacity * 2 : 1u << 17;
    g->edges = realloc(g->edges, g->edge_capacity * sizeof *g->edges);
    if (g->edges == NULL) abort();
  }
  g->edges[g->edge_count].to = to;
  g->edges[g->edge_count].next = g->first[from];
  g->first[from] = g->edge_count++;
}

/* ---- Values ------------------------------------------------------------ */

static int order_compare_values(const void *a, const void *b) {
  const order_value *x = a, *y = b;
  if (x->key != y->key) return x->key < y->key ? -1 : 1;
  return x->op->commit.invoked < y->op->commit.invoked   ? -1
         : x->op->commit.invoked > y->op->commit.invoked ? 1
                                                         : 0;
}

/* Its event is kept in `block` until the values are sorted. */
static void order_add_values(order_graph *g, const history_op *op,
                             uint32_t commit) {
  const history_access *a = history_accesses(g->h, op);
  for (uint32_t i = 0; i < op->count; i++) {
    if (!(a[i].flags & ACCESS_WRITE)) continue;
    bool hidden = (a[i].flags & ACCESS_HIDDEN) != 0;
    if (a[i].value != 0)
      g->written[a[i].value] = op->end != OP_DONE ? ORDER_ABORTED
                               : hidden           ? ORDER_HIDDEN
                                                  : 0;
    if (op->end != OP_DONE || hidden) continue;
    g->values[g->value_count++] = (order_value){.key = a[i].key,
                                                .value = a[i].value,
                                                .op = op,
                                                .commit = commit,
                                                .returned = op->commit.returned,
                                                .invoked = op->commit.invoked,
                                                .next = ORDER_NONE,
                                                .readers = ORDER_NONE};
  }
}

static void order_sort_values(order_graph *g) {
  qsort(g->values, g->value_count, sizeof *g->values, order_compare_values);
  uint32_t at = 0;
  for (uint32_t k = 0; k <= g->h->keys; k++) {
    while (at < g->value_count && g->values[at].key < k) at++;
    g->first_value[k] = at;
  }
  for (uint32_t i = 0; i < g->value_count; i++)
    if (g->values[i].value != 0) g->written[g->values[i].value] = i;
}

/* ---- Reads ------------------------------------------------------------- */

/* The value that was read, or NULL with a fault. */
static order_value *order_source(order_graph *g, const history_op *op,
                                 const history_access *a) {
  uint32_t at = g->written[a->value];
  const char *fault = at == ORDER_NEVER     ? "read what nobody wrote"
                      : at == ORDER_ABORTED ? "read an aborted write (G1a)"
                      : at == ORDER_HIDDEN  ? "read an inner write (G1b)"
                      : g->values[at].key != a->key
                          ? "read a value of another key"
                          : NULL;
  if (fault == NULL) return &g->values[at];
  history_fault(g->h, fault, op, NULL);
  return NULL;
}

/* A read of a value: an edge, and more that is known of the value's time. */
static void order_note_read(order_graph *g, const history_op *op,
                            const history_access *a, uint32_t begin) {
  order_value *v = order_source(g, op, a);
  if (v == NULL) return;
  /* A commit's read of what it replaces is its own event. */
  if (begin != v->commit) order_edge(g, v->commit, begin);
  if (op->begin.returned < v->returned) v->returned = op->begin.returned;
  if (op->begin.invoked > v->invoked) v->invoked = op->begin.invoked;
  g->reads[g->read_count] = (order_read){begin, v->readers};
  v->readers = g->read_count++;
}

/* The value of this key that the operation committed. */
static uint32_t order_written_by(order_graph *g, const history_op *op,
                                 uint32_t key) {
  for (uint32_t i = g->first_value[key]; i < g->first_value[key + 1]; i++)
    if (g->values[i].op == op) return i;
  return ORDER_NONE;
}

/* An update ties what it wrote to what it read. */
static void order_tie(order_graph *g, const history_op *op,
                      const history_access *read) {
  const history_access *a = history_accesses(g->h, op);
  bool is_checked = false;
  for (uint32_t i = 0; i < op->count; i++)
    is_checked |= a[i].key == read->key && (a[i].flags & ACCESS_WRITE) &&
                  (a[i].flags & ACCESS_CHECKED);
  if (!is_checked) return;
  uint32_t to = order_written_by(g, op, read->key);
  uint32_t from = g->written[read->value];
  if (to == ORDER_NONE || from >= ORDER_HIDDEN) return;
  if (g->values[from].next == to) return;
  if (g->values[from].next != ORDER_NONE) {
    history_fault(g->h, "two updates of one value: one is lost (G-single)", op,
                  g->values[g->values[from].next].op);
    return;
  }
  g->values[from].next = to;
  g->values[to].is_tied = true;
}

/* ---- Order of versions ------------------------------------------------- */

/* Join what is known of tied values, and link them. */
static void order_blocks(order_graph *g) {
  for (uint32_t i = 0; i < g->value_count; i++) {
    order_value *first = &g->values[i];
    if (first->is_tied) continue;
    first->end = order_node(g, NULL);
    for (uint32_t at = i; at != ORDER_NONE; at = g->values[at].next) {
      order_value *v = &g->values[at];
      uint32_t next = v->next;
      uint32_t behind =
          next != ORDER_NONE ? g->values[next].commit : first->end;
      if (v->returned < first->returned) first->returned = v->returned;
      if (v->invoked > first->invoked) first->invoked = v->invoked;
      order_edge(g, v->commit, behind);
      for (uint32_t r = v->readers; r != ORDER_NONE; r = g->reads[r].next)
        if (g->reads[r].event != behind)
          order_edge(g, g->reads[r].event, behind);
    }
  }
}

static void order_key(order_graph *g, uint32_t key) {
  uint32_t end = g->first_value[key + 1];
  for (uint32_t i = g->first_value[key]; i < end; i++) {
    const order_value *a = &g->values[i];
    if (a->is_tied) continue;
    for (uint32_t j = g->first_value[key]; j < end; j++) {
      const order_value *b = &g->values[j];
      if (j != i && !b->is_tied && a->returned < b->invoked)
        order_edge(g, a->end, b->commit);
    }
  }
}

/* The key was not there: what was written after the last removal that can be
 * the reason comes later. And it was not there between two uses of a value. */
static void order_absent(order_graph *g, const history_op *op, uint32_t key,
                         uint32_t begin) {
  uint64_t removed = 0;
  uint32_t end = g->first_value[key + 1];
  for (uint32_t i = g->first_value[key]; i < end; i++) {
    const order_value *v = &g->values[i];
    if (v->value == 0 && v->op->commit.invoked <= op->begin.returned &&
        v->op->commit.returned > removed)
      removed = v->op->commit.returned;
  }
  for (uint32_t i = g->first_value[key]; i < end; i++) {
    const order_value *v = &g->values[i];
    if (v->value == 0 || v->op == op) continue;
    if (v->op->commit.invoked > removed) order_edge(g, begin, v->commit);
    if (v->returned < op->begin.invoked && op->begin.returned < v->invoked)
      history_fault(g->h, "absent, between two uses of a value", op, v->op);
  }
}

/* ---- Time -------------------------------------------------------------- */

typedef struct order_moment {
  uint64_t time;
  uint32_t event;
  bool is_return;
} order_moment;

static int order_compare_moments(const void *a, const void *b) {
  const order_moment *x = a, *y = b;
  if (x->time != y->time) return x->time < y->time ? -1 : 1;
  return x->is_return - y->is_return;
}

/* Returns become a chain of moments; what is begun hangs on the last. */
static void order_time(order_graph *g, order_moment *moments, size_t count) {
  uint32_t last = ORDER_NONE;
  qsort(moments, count, sizeof *moments, order_compare_moments);
  for (size_t i = 0; i < count; i++) {
    if (!moments[i].is_return) {
      if (last != ORDER_NONE) order_edge(g, last, moments[i].event);
      continue;
    }
    uint32_t now = order_node(g, NULL);
    order_edge(g, moments[i].event, now);
    if (last != ORDER_NONE) order_edge(g, last, now);
    last = now;
  }
}

/* ---- Cycles ------------------------------------------------------------ */

/* Every node that is left has an edge from another that is left: go back until
 * one repeats. */
static void order_print_cycle(const order_graph *g, const uint32_t *incoming) {
  uint32_t *from = history_alloc(g->nodes, sizeof *from);
  uint32_t at = ORDER_NONE, steps = 0;
  for (uint32_t n = 0; n < g->nodes; n++) {
    if (incoming[n] == 0) continue;
    for (uint32_t e = g->first[n]; e != ORDER_NONE; e = g->edges[e].next)
      if (incoming[g->edges[e].to] != 0) from[g->edges[e].to] = n;
    at = n;
  }
  for (uint32_t i = 0; i < g->nodes && at != ORDER_NONE; i++) at = from[at];
  uint32_t start = at;
  do {
    if (g->op_of[at] != NULL) history_print(g->h, g->op_of[at]);
    at = from[at];
  } while (at != start && ++steps < 40);
  free(from);
}

/* Take away what nothing comes before, until nothing is left. */
static void order_sort(order_graph *g) {
  uint32_t *incoming = history_alloc(g->nodes, sizeof *incoming);
  uint32_t *ready = history_alloc(g->nodes, sizeof *ready);
  uint32_t count = 0, done = 0;
  for (uint32_t e = 0; e < g->edge_count; e++) incoming[g->edges[e].to]++;
  for (uint32_t n = 0; n < g->nodes; n++)
    if (incoming[n] == 0) ready[count++] = n;
  while (done < count)
    for (uint32_t e = g->first[ready[done++]]; e != ORDER_NONE;
         e = g->edges[e].next)
      if (--incoming[g->edges[e].to] == 0) ready[count++] = g->edges[e].to;
  check_count++;
  if (count < g->nodes) {
    history_fault(
        g->h, "no order of all events exists; a cycle, backwards:", NULL, NULL);
    if (check_failures <= 5) order_print_cycle(g, incoming);
  }
  free(ready);
  free(incoming);
}

/* ---- All of it --------------------------------------------------------- */

static void order_events(order_graph *g, size_t *ops, order_moment *moments,
                         size_t *count) {
  for (unsigned t = 0; t < g->h->threads; t++)
    for (uint32_t i = 0; i < g->h->logs[t].ops; i++, (*ops)++) {
      const history_op *op = &g->h->logs[t].op[i];
      uint32_t b = op->reads ? order_node(g, op) : ORDER_NONE;
      uint32_t c = !op->writes                  ? ORDER_NONE
                   : op->is_atomic && op->reads ? b
                                                : order_node(g, op);
      g->begin[*ops] = b;
      g->commit[*ops] = c;
      if (b != ORDER_NONE) {
        moments[(*count)++] = (order_moment){op->begin.invoked, b, false};
        moments[(*count)++] = (order_moment){op->begin.returned, b, true};
      }
      if (c != ORDER_NONE && c != b) {
        moments[(*count)++] = (order_moment){op->commit.invoked, c, false};
        moments[(*count)++] = (order_moment){op->commit.returned, c, true};
        if (b != ORDER_NONE) order_edge(g, b, c);
      }
      order_add_values(g, op, c);
    }
}

/* is_absent: those; else the reads of values. */
static void order_reads(order_graph *g, bool is_absent) {
  size_t n = 0;
  for (unsigned t = 0; t < g->h->threads; t++)
    for (uint32_t i = 0; i < g->h->logs[t].ops; i++, n++) {
      const history_op *op = &g->h->logs[t].op[i];
      const history_access *a = history_accesses(g->h, op);
      for (uint32_t j = 0; j < op->count; j++) {
        if (!(a[j].flags & ACCESS_READ) ||
            (a[j].flags & (ACCESS_VERSION | ACCESS_PRESENT)) ||
            (a[j].value == 0) != is_absent)
          continue;
        if (is_absent) {
          order_absent(g, op, a[j].key, g->begin[n]);
        } else {
          order_note_read(g, op, &a[j], g->begin[n]);
          if (op->writes) order_tie(g, op, &a[j]);
        }
      }
    }
}

static void history_check_order(const history *h) {
  order_graph g = {.h = h};
  size_t ops = 0, accesses = 0, seen = 0, count = 0;
  for (unsigned t = 0; t < h->threads; t++) {
    ops += h->logs[t].ops;
    accesses += h->logs[t].accesses;
  }
  size_t nodes = ops * 4 + accesses;
  size_t numbers = (size_t)h->threads * HISTORY_VALUES + HISTORY_VALUES;
  order_moment *moments = history_alloc(ops * 4, sizeof *moments);
  g.first = history_alloc(nodes, sizeof *g.first);
  g.op_of = history_alloc(nodes, sizeof *g.op_of);
  g.begin = history_alloc(ops, sizeof *g.begin);
  g.commit = history_alloc(ops, sizeof *g.commit);
  g.values = history_alloc(accesses, sizeof *g.values);
  g.reads = history_alloc(accesses, sizeof *g.reads);
  g.written = history_alloc(numbers, sizeof *g.written);
  memset(g.written, 0xff, numbers * sizeof *g.written);
  order_events(&g, &seen, moments, &count);
  order_sort_values(&g);
  order_reads(&g, false);
  order_blocks(&g);
  for (uint32_t k = 0; k < h->keys; k++) order_key(&g, k);
  order_reads(&g, true);
  order_time(&g, moments, count);
  order_sort(&g);
  free(moments);
  free(g.first);
  free(g.op_of);
  free(g.begin);
  free(g.commit);
  free(g.values);
  free(g.reads);
  free(g.written);
  free(g.edges);
}

#endif
