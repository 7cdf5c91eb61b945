/*
 * The query planner: which constraints on `key` narrow the search.
 *
 * PURPOSE  A pure function: what the core asks in xBestIndex comes in, the
 *   answer goes out. The module narrows and the core checks (`omit` is never
 *   set), so leaving a constraint out is always right, and taking one never
 *   loses a row as long as xFilter's bounds are outwards.
 *
 * PLAN NUMBER  (idxNum)
 *    bits 0..15   four arguments of xFilter, 4 bits each, the first lowest:
 *                 a skv_sql_arg; SKV_SQL_ARG_NONE ends the list
 *    bit 16       DESC: backwards
 *    bit 17       KEYS: the column `value` is not used
 *    bit 18       the column `version` is used
 */
#ifndef SKV_SQL_PLAN_H
#define SKV_SQL_PLAN_H

#include <stddef.h>

/* Columns of the declared table. */
#define SKV_SQL_COLUMN_KEY 0
#define SKV_SQL_COLUMN_VALUE 1
#define SKV_SQL_COLUMN_VERSION 2
#define SKV_SQL_COLUMN_COMMAND 3

typedef enum skv_sql_arg {
  SKV_SQL_ARG_NONE = 0,
  SKV_SQL_ARG_EQ = 1, /* = or IS */
  SKV_SQL_ARG_IN = 2, /* all values at once */
  SKV_SQL_ARG_GT = 3,
  SKV_SQL_ARG_GE = 4,
  SKV_SQL_ARG_LT = 5,
  SKV_SQL_ARG_LE = 6,
  SKV_SQL_ARG_GLOB = 7, /* the prefix before the first wildcard */
  SKV_SQL_ARG_OTHER = 8 /* nothing for us; never in a plan number */
} skv_sql_arg;

#define SKV_SQL_PLAN_ARGS 4
#define SKV_SQL_PLAN_ARG(plan, i)                                              \
  ((skv_sql_arg)(((unsigned)(plan) >> (4 * (i))) & 15u))
#define SKV_SQL_PLAN_DESC (1 << 16)
#define SKV_SQL_PLAN_KEYS (1 << 17)
#define SKV_SQL_PLAN_VERSION (1 << 18)

typedef struct skv_sql_constraint {
  skv_sql_arg op; /* SKV_SQL_ARG_OTHER also if unusable, on another column, or
                     not compared by BINARY */
} skv_sql_constraint;

typedef struct skv_sql_query {
  const skv_sql_constraint *constraints;
  int count;
  int is_ordered;        /* there is an ORDER BY */
  int is_ordered_by_key; /* its first term is the key */
  int is_descending;     /* that term is DESC */
  int uses_value;        /* columns that the statement reads */
  int uses_version;
  int is_text_glob; /* GLOB's prefix means something: key=text */
  int is_utf16;     /* memcmp is not the database's BINARY: point lookups
                            only, no order */
  double rows;      /* entries in the table, a guess if unknown */
} skv_sql_query;

typedef struct skv_sql_plan {
  int number;                  /* idxNum */
  int used[SKV_SQL_PLAN_ARGS]; /* index of the constraint behind each
                                     argument */
  int used_count;
  int is_unique; /* at most one row */
  int is_order_consumed;
  double cost;
  double rows;
  char text[80]; /* idxStr, for people: "key>=? AND key<? DESC KEYS" */
} skv_sql_plan;

void skv_sql_plan_choose(const skv_sql_query *query, skv_sql_plan *plan);

#endif /* SKV_SQL_PLAN_H */
