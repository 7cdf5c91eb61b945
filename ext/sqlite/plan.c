/*
 * Choosing a plan: a point lookup if there is one, else a list of points,
 * else the range of up to four bounds, else everything.
 */
#include "ext/sqlite/plan.h"

#include <string.h>

/* Of what is in the table, how much a bound on one side leaves, and on both,
 * and a prefix. Guesses; only their order matters to the core. */
#define SHARE_ONE_SIDE 4.0
#define SHARE_TWO_SIDES 16.0
#define SHARE_PREFIX 64.0

static const char *const arg_texts[] = {"",       "key=?",     "key IN(?)",
                                        "key>?",  "key>=?",    "key<?",
                                        "key<=?", "key GLOB ?"};

static void plan_take(skv_sql_plan *plan, int index, skv_sql_arg arg) {
  plan->number |= (int)arg << (4 * plan->used_count);
  plan->used[plan->used_count++] = index;
}

static int find_op(const skv_sql_query *query, skv_sql_arg op) {
  for (int i = 0; i < query->count; i++) {
    if (query->constraints[i].op == op) return i;
  }
  return -1;
}

static int is_bound(const skv_sql_query *query, skv_sql_arg op) {
  if (query->is_utf16) return 0;
  if (op == SKV_SQL_ARG_GLOB) return query->is_text_glob;
  return op >= SKV_SQL_ARG_GT && op <= SKV_SQL_ARG_LE;
}

/* Every bound in the order it comes; the tightest wins in xFilter. */
static void plan_bounds(const skv_sql_query *query, skv_sql_plan *plan) {
  int has_lower = 0;
  int has_upper = 0;
  int has_prefix = 0;
  for (int i = 0; i < query->count; i++) {
    skv_sql_arg op = query->constraints[i].op;
    if (!is_bound(query, op) || plan->used_count == SKV_SQL_PLAN_ARGS) continue;
    plan_take(plan, i, op);
    if (op == SKV_SQL_ARG_GLOB) has_prefix = 1;
    if (op == SKV_SQL_ARG_GT || op == SKV_SQL_ARG_GE) has_lower = 1;
    if (op == SKV_SQL_ARG_LT || op == SKV_SQL_ARG_LE) has_upper = 1;
  }
  plan->rows = query->rows;
  if (has_prefix) {
    plan->rows /= SHARE_PREFIX;
  } else if (has_lower && has_upper) {
    plan->rows /= SHARE_TWO_SIDES;
  } else if (has_lower || has_upper) {
    plan->rows /= SHARE_ONE_SIDE;
  }
  if (plan->rows < 2) plan->rows = 2; /* never as good as a point */
  plan->cost = plan->rows * (query->uses_value ? 1.0 : 0.75) + 1;
}

/* One row is in any order; keys are unique, so terms after `key` are free. */
static void plan_order(const skv_sql_query *query, skv_sql_plan *plan) {
  if (!query->is_ordered) return;
  if (plan->is_unique) {
    plan->is_order_consumed = 1;
  } else if (query->is_ordered_by_key && !query->is_utf16) {
    plan->is_order_consumed = 1;
    if (query->is_descending) plan->number |= SKV_SQL_PLAN_DESC;
  }
}

static void plan_describe(skv_sql_plan *plan) {
  char *out = plan->text;
  size_t room = sizeof plan->text - 1;
  out[0] = 0;
  for (int i = 0; i < plan->used_count; i++) {
    if (i > 0) strncat(out, " AND ", room - strlen(out));
    strncat(out, arg_texts[SKV_SQL_PLAN_ARG(plan->number, i)],
            room - strlen(out));
  }
  if (plan->used_count == 0) strncat(out, "scan", room - strlen(out));
  if (plan->number & SKV_SQL_PLAN_DESC) {
    strncat(out, " DESC", room - strlen(out));
  }
  if (plan->number & SKV_SQL_PLAN_KEYS) {
    strncat(out, " KEYS", room - strlen(out));
  }
}

void skv_sql_plan_choose(const skv_sql_query *query, skv_sql_plan *plan) {
  int eq = find_op(query, SKV_SQL_ARG_EQ);
  int in = find_op(query, SKV_SQL_ARG_IN);

  memset(plan, 0, sizeof *plan);
  if (eq >= 0) {
    plan_take(plan, eq, SKV_SQL_ARG_EQ);
    plan->is_unique = 1;
    plan->rows = 1;
    plan->cost = 1;
  } else if (in >= 0) {
    plan_take(plan, in, SKV_SQL_ARG_IN);
    plan->rows = 10;
    plan->cost = 2;
  } else {
    plan_bounds(query, plan);
  }
  plan_order(query, plan);
  if (!query->uses_value) plan->number |= SKV_SQL_PLAN_KEYS;
  if (query->uses_version) plan->number |= SKV_SQL_PLAN_VERSION;
  plan_describe(plan);
}
