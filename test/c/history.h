/*
 * Histories: what several threads of several processes asked of one store and
 * were told, and when. Recorded while it happens, judged afterwards by
 * history_lsn.h (from the LSNs) and history_order.h (from values and time).
 *
 * OPERATION  Everything is a transaction: reads that are true of one moment
 *   between `begin`, writes that happen at one moment between `commit`. A get
 *   is one read, a scan many, a snapshot all reads made from it until it is
 *   closed; a batch with conditions reads and writes at the same moment.
 *
 * VALUE  Each write of a history has a number that no other has, from which
 *   the bytes are made; 0 stands for an absent key, and for a removal.
 *
 * TIME  The monotonic clock, the same for all processes of a machine. It
 *   orders nothing between threads, so a race detector sees the engine's own
 *   synchronization only.
 *
 * THREADS  One writer for each log; judged when all are done. A log is plain
 *   memory, shared where the threads are of several real processes.
 */
#ifndef TEST_C_HISTORY_H
#define TEST_C_HISTORY_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "test/c/check.h"

/* Sizes; a test may choose others before it includes this. */
#ifndef HISTORY_OPS
#define HISTORY_KEYS 48    /* keys of a history, at most */
#define HISTORY_THREADS 13 /* of all processes, and a last reader */
#define HISTORY_OPS 6000   /* of one thread */
#define HISTORY_ACCESSES 90000
#define HISTORY_VALUES 40000 /* of one thread */
#define HISTORY_DRAFT 600    /* accesses of one operation */
#endif

/* What an operation did with a key. */
#define ACCESS_READ 1u
#define ACCESS_WRITE 2u
#define ACCESS_CHECKED 4u /* commits only if nobody wrote the key between */
#define ACCESS_HIDDEN                                                          \
  8u                       /* a write that the same operation took back, or
                             overwrote: never to be seen by others */
#define ACCESS_VERSION 16u /* a read of which only the version is known */
#define ACCESS_PRESENT 32u /* a read that says only that the key is there */

typedef struct history_access {
  uint32_t key;
  uint32_t flags;   /* ACCESS_* */
  uint32_t value;   /* 0: absent, or removed */
  uint64_t version; /* read: LSN that came with the value, 0 if absent */
} history_access;

/* How an operation ended. */
enum { OP_DONE, OP_ABORTED, OP_CONFLICT, OP_REFUSED };

typedef struct history_time {
  uint64_t invoked, returned; /* nanoseconds */
} history_time;

typedef struct history_op {
  const char *name;
  uint8_t end;        /* OP_* */
  bool is_atomic;     /* reads and writes at one moment */
  bool is_large;      /* a transaction that may have been spilled */
  bool reads, writes; /* has such accesses; writes: committed ones */
  uint8_t thread;
  uint32_t access, count; /* in the thread's accesses */
  history_time begin, commit;
  uint64_t lsn;      /* of its commit; 0: it wrote nothing */
  uint64_t snapshot; /* LSN of its moment of reading; 0: not told */
} history_op;

/* Of one thread. */
typedef struct history_log {
  uint32_t ops, accesses, values;
  uint64_t reads;
  history_op op[HISTORY_OPS];
  history_access all[HISTORY_ACCESSES];
} history_log;

/* An operation that is not finished. */
typedef struct history_draft {
  history_op op;
  uint32_t count;
  history_access all[HISTORY_DRAFT];
} history_draft;

typedef struct history {
  unsigned threads, keys;
  history_log *logs;
} history;

/* ---- Recording --------------------------------------------------------- */

static inline uint64_t history_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline void history_draft_init(history_draft *draft, const char *name) {
  memset(&draft->op, 0, sizeof draft->op);
  draft->op.name = name;
  draft->count = 0;
}

static inline history_access *history_note(history_draft *draft, uint32_t key,
                                           uint32_t flags, uint32_t value,
                                           uint64_t version) {
  if (draft->count == HISTORY_DRAFT) return &draft->all[HISTORY_DRAFT - 1];
  history_access *a = &draft->all[draft->count++];
  *a = (history_access){key, flags, value, version};
  return a;
}

/* Whether the log has room for more operations. */
static inline bool history_has_room(const history_log *log) {
  return log->ops + 8 < HISTORY_OPS &&
         log->accesses + 8 * HISTORY_DRAFT < HISTORY_ACCESSES &&
         log->values + 2000 < HISTORY_VALUES;
}

/* The operation is over. */
static inline void history_add(history_log *log, unsigned thread,
                               history_draft *draft, int end) {
  history_op *op = &draft->op;
  op->end = (uint8_t)end;
  op->thread = (uint8_t)thread;
  op->access = log->accesses;
  op->count = draft->count;
  for (uint32_t i = 0; i < draft->count; i++) {
    history_access *a = &draft->all[i];
    if (a->flags & ACCESS_READ) op->reads = true;
    if (a->flags & ACCESS_READ) log->reads++;
    if ((a->flags & (ACCESS_WRITE | ACCESS_HIDDEN)) == ACCESS_WRITE &&
        end == OP_DONE)
      op->writes = true;
    log->all[log->accesses++] = *a;
  }
  log->op[log->ops++] = *op;
}

/* A number for the next write of this thread, never 0. */
static inline uint32_t history_value(history_log *log, unsigned thread) {
  return (uint32_t)thread * HISTORY_VALUES + ++log->values;
}

/* ---- Judging ----------------------------------------------------------- */

static inline const history_access *history_accesses(const history *h,
                                                     const history_op *op) {
  return &h->logs[op->thread].all[op->access];
}

static inline void history_print(const history *h, const history_op *op) {
  static const char *const ends[] = {"", " aborted", " conflict", " refused"};
  printf("  thread %u %s%s", op->thread, op->name, ends[op->end]);
  if (op->reads)
    printf(" read %llu..%llu", (unsigned long long)op->begin.invoked,
           (unsigned long long)op->begin.returned);
  if (op->snapshot) printf(" at %llu", (unsigned long long)op->snapshot);
  if (op->writes)
    printf(
        " commit %llu..%llu lsn %llu", (unsigned long long)op->commit.invoked,
        (unsigned long long)op->commit.returned, (unsigned long long)op->lsn);
  const history_access *a = history_accesses(h, op);
  for (uint32_t i = 0; i < op->count && i < 24; i++)
    printf(" %s%s%u=%u@%llu", a[i].flags & ACCESS_READ ? "r" : "w",
           a[i].flags & ACCESS_CHECKED ? "!" : "", a[i].key, a[i].value,
           (unsigned long long)a[i].version);
  printf("\n");
}

/* A fault in the history; the first few are shown with their operations. */
static inline void history_fault(const history *h, const char *what,
                                 const history_op *op,
                                 const history_op *other) {
  check_count++;
  if (check_failures++ >= 5) return;
  printf("failed in %s: %s\n", check_where, what);
  if (op) history_print(h, op);
  if (other) history_print(h, other);
}

#endif
