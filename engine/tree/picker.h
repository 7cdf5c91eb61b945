/*
 * The compaction picker: which segments to merge next. Pure: a version and
 * limits in, a plan out; tested by tables.
 *
 * LEVELS  B is the last level that holds data. A level's bytes may reach its
 *   target T before it is merged downwards:
 *
 *     level       T                                  with the defaults
 *     0           level0_runs runs; level1_bytes;    4 runs; 64 MiB;
 *                 a quarter of what is below         a quarter
 *     i, 0<i<B    min(level1_bytes * fanout^(i-1),   64 MiB, 512 MiB, ...;
 *                 bytes of B / fanout^(B-i))         B/8, B/64, ...
 *     B, B<7      level1_bytes * fanout^(B-1)        64 MiB, 512 MiB, ...
 *     7           none
 *   The quarter and B's fractions are at least level1_bytes / 64 (1 MiB). They
 *   keep what lies above B, and so what may be hidden in B, a small part of
 *   it: all files together stay below twice the live data. For the same end a
 *   tombstone weighs as much as an average entry of the levels below.
 *
 * POLICY  The level with the highest score (weight / T) of at least 1 is
 *   merged downwards, the upper one if two are equal: level 0 into level 1,
 *   all runs that may be taken; another level one segment at a time, the one
 *   with the fewest bytes to rewrite below for its weight.
 *     - A merge that was begun is finished first: one of level 0 goes before
 *       all else, and runs newer than its newest trimmed segment wait; of
 *       another level a trimmed segment is taken first (score at least 1).
 *     - A segment of a level whose entries are mostly tombstones is taken
 *       (score at least 1) though nothing is written; where nothing older is
 *       below, or in B, it is rewritten in its level. So is a trimmed one.
 *     - What overlaps nothing below moves without being rewritten, to the
 *       deepest level that it can reach above an overlap, at most B; but
 *       tombstones that could be dropped are, and small runs (together below
 *       level1_bytes / 16, 4 MiB) are merged with each other and with a small
 *       neighbour, so that many small flushes do not leave many small files.
 *
 * P5  Level-0 runs with an id at or above `unflushed` (the start LSN of the
 *   oldest unflushed log) are not taken, nor any run newer than one not taken.
 */
#ifndef SKV_TREE_PICKER_H
#define SKV_TREE_PICKER_H

#include "engine/tree/version.h"

/* 0 stands for the default. */
typedef struct skv_picker_limits {
  unsigned level0_runs;  /* default 4 */
  uint64_t level1_bytes; /* default 64 MiB */
  unsigned fanout;       /* default 8, at least 2 */
  uint64_t unflushed;    /* see P5; UINT64_MAX: every log is flushed */
  bool is_narrow;        /* merge two runs at a time, the oldest first: slower
                            and in little space */
} skv_picker_limits;

/* A merge of `inputs` (newest first within equal keys) into `level`. */
typedef struct skv_plan {
  unsigned from;       /* uppermost level of the upper inputs */
  unsigned level;      /* where the output goes; equal to `from`: a rewrite of
                          one segment in its place */
  bool bottom;         /* no older entry of any of these keys exists below or
                          beside: tombstones may be dropped (INV-6) */
  bool move;           /* nothing to merge: only the level changes */
  size_t count;        /* segments */
  skv_segref **inputs; /* owned array of borrowed pointers (the version's):
                          upper ones by run or level, newest first, then
                          `level`'s by key */
  size_t upper;        /* how many of them are upper */
  double score;        /* >= 1: needed; how urgent */
} skv_plan;

/* The most urgent plan; count 0 if nothing needs to be done. The version
 * outlives the plan. */
int skv_pick(const skv_version *version, const skv_picker_limits *limits,
             skv_err *err, skv_plan *plan);
/*
 * One step towards everything at the bottom (compact on request); count 0 when
 * there is nothing left to do: apart from runs that P5 keeps, all data is in
 * one level, without tombstones and trimmed segments. First everything above
 * the last level is merged into it in one plan; then what still has
 * tombstones is rewritten, one segment a plan. With `unflushed` set to the
 * LSN of the request it ends although others go on writing.
 */
int skv_pick_full(const skv_version *version, const skv_picker_limits *limits,
                  skv_err *err, skv_plan *plan);
void skv_plan_clear(skv_plan *plan);

/* Bytes that carrying it out may take before anything is given back: a run's
 * segment is freed when it is consumed, so that of each run the largest may be
 * there twice. */
uint64_t skv_plan_space(const skv_plan *plan);

/* Bytes that compaction is behind, for back-pressure and stats: level 0, if
 * it has reached its runs, and what levels above the last one have beyond
 * their targets. */
uint64_t skv_pick_debt(const skv_version *version,
                       const skv_picker_limits *limits);

#endif
