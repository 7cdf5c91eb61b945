/*
 * Random scripts of the differential test.
 *
 * Tables kv and k2 of one store, with key types of their own, and p, an
 * ordinary table whose triggers write to kv. A script does not depend on what
 * its statements return, so that any part of it is a script too.
 *
 * LEFT OUT  because the two kinds of table may differ there: RETURNING under OR
 *   IGNORE (D2) or with UPDATE and DELETE (D1), subqueries in UPDATE (D7),
 *   comparisons of the keys of two types (D3). A statement that moves keys or
 *   stops half-way meets its rows in the order of the plan, so its WHERE is one
 *   range, and what it writes does not depend on what it has overwritten.
 */
#ifndef TEST_C_DIFF_GEN_H
#define TEST_C_DIFF_GEN_H

#include "test/c/diff_where.h"

/* ---- Writes -------------------------------------------------------------- */

static const char *const conflicts[] = {"",
                                        "",
                                        "",
                                        " OR ABORT",
                                        " OR FAIL",
                                        " OR IGNORE",
                                        " OR IGNORE",
                                        " OR REPLACE",
                                        " OR REPLACE",
                                        " OR REPLACE",
                                        " OR ROLLBACK"};

/* In a transaction an ordinary table keeps what such a statement wrote before
 * it met a key of a wrong class: the core makes no statement journal. */
static inline bool is_lenient(const char *conflict) {
  return strcmp(conflict, " OR IGNORE") == 0 ||
         strcmp(conflict, " OR FAIL") == 0 ||
         strcmp(conflict, " OR ROLLBACK") == 0;
}

static inline void write_insert(diff_gen *g, diff_text *t) {
  const char *conflict = PICK(g, conflicts);
  unsigned rows = chance(g, 3) ? 1 + below(g, 5) : 1;
  bool swap = chance(g, 8);
  text_put(t, "INSERT%s INTO %s%s VALUES", conflict, gen_tables[g->table],
           swap ? "(value,key)" : "(key,value)");
  for (unsigned i = 0; i < rows; i++) {
    gen_literal key;
    gen_new_key(g, rows == 1 || !is_lenient(conflict), key);
    text_put(t, "%s(", i > 0 ? "," : "");
    if (!swap) text_put(t, "%s,", key);
    gen_value(g, t);
    if (swap) text_put(t, ",%s", key);
    text_put(t, ")");
  }
  if (chance(g, 12) && strcmp(conflict, " OR IGNORE") != 0)
    text_put(t, " RETURNING key,value");
}

/* A key made of another. */
static inline const char *gen_moved(diff_gen *g) {
  static const char *const moved[3][6] = {
      {"key||'x'", "substr(key,1,1)", "key||char(0)", "'k'||key", "upper(key)",
       "key||'x'"},
      {"CAST(key||'x' AS BLOB)", "substr(key,1,1)", "CAST('k'||key AS BLOB)",
       "CAST(upper(key) AS BLOB)", "substr(key,2)", "CAST(key||'x' AS BLOB)"},
      {"key+1", "key-1", "-key", "key/2", "key&7", "key+1000"}};
  return PICK(g, moved[g->type[g->table]]);
}

static inline void write_insert_select(diff_gen *g, diff_text *t) {
  const char *conflict = PICK(g, conflicts);
  if (g->type[g->table] == KEY_INT && is_lenient(conflict))
    conflict = " OR REPLACE"; /* key+1 may be a REAL */
  bool same = g->type[0] != g->type[1] || chance(g, 2);
  g->name = gen_tables[same ? g->table : 1 - g->table];
  text_put(t, "INSERT%s INTO %s SELECT %s,value FROM %s WHERE ", conflict,
           gen_tables[g->table], chance(g, 5) ? "key" : gen_moved(g), g->name);
  gen_range(g, t);
  text_put(t, " ORDER BY key%s", chance(g, 3) ? " DESC" : "");
  if (chance(g, 3)) text_put(t, " LIMIT %u", below(g, 6));
}

/* Many rows at once; they collide now and then. */
static inline void write_bulk(diff_gen *g, diff_text *t) {
  static const char *const keys[3] = {
      "printf('k%%03d',i*%u%%100)", "CAST(printf('k%%03d',i*%u%%100) AS BLOB)",
      "10+i*%u%%100"};
  unsigned step = 1 + 2 * below(g, 20);
  unsigned n = g->config->large && chance(g, 3) ? 100 : 10 + below(g, 40);
  diff_text key = {0};
  char number[12];
  snprintf(number, sizeof number, "%u", step);
  for (const char *p = keys[g->type[g->table]]; *p; p++) {
    if (p[0] == '%' && p[1] == 'u') {
      text_put(&key, "%s", number);
      p++;
    } else if (p[0] == '%' && p[1] == '%') {
      text_put(&key, "%%");
      p++;
    } else {
      text_add(&key, p, 1);
    }
  }
  text_put(t,
           "INSERT OR %s INTO %s WITH RECURSIVE c(i) AS (VALUES(0) UNION ALL "
           "SELECT i+1 FROM c WHERE i<%u) SELECT %s,%s FROM c",
           chance(g, 4) ? "IGNORE" : "REPLACE", gen_tables[g->table], n,
           key.data,
           g->config->large && chance(g, 2) ? "zeroblob(i*97)"
                                            : "printf('%.*c',i,'b')");
  text_free(&key);
}

static inline void write_update_value(diff_gen *g, diff_text *t) {
  static const char *const values[] = {
      "value+1",       "substr(value||'x',-40)",
      "typeof(value)", "key",
      "-value",        "CASE WHEN value IS NULL THEN 7 END"};
  g->no_subquery = true;
  text_put(t, "UPDATE%s %s SET value=", PICK(g, conflicts),
           gen_tables[g->table]);
  if (chance(g, 2))
    text_put(t, "%s", PICK(g, values));
  else
    gen_value(g, t);
  text_put(t, " WHERE ");
  if (chance(g, 2))
    gen_range(g, t);
  else
    gen_where(g, t, 1);
  g->no_subquery = false;
}

static inline void write_update_key(diff_gen *g, diff_text *t) {
  const char *conflict = PICK(g, conflicts);
  if (g->type[g->table] == KEY_INT && is_lenient(conflict)) conflict = "";
  text_put(t, "UPDATE%s %s SET key=", conflict, gen_tables[g->table]);
  gen_literal key;
  gen_new_key(g, !is_lenient(conflict), key);
  text_put(t, "%s", chance(g, 2) ? gen_moved(g) : key);
  if (chance(g, 3)) {
    text_put(t, ",value=");
    gen_value(g, t);
  }
  text_put(t, " WHERE ");
  gen_range(g, t);
}

static inline void write_update_from(diff_gen *g, diff_text *t) {
  if (g->type[0] != g->type[1]) {
    write_update_value(g, t);
    return;
  }
  const char *other = gen_tables[1 - g->table];
  text_put(t,
           "UPDATE %s SET value=z.value FROM %s AS z WHERE z.key=%s.key AND ",
           g->name, other, g->name);
  gen_range(g, t);
}

static inline void write_delete(diff_gen *g, diff_text *t) {
  text_put(t, "DELETE FROM %s WHERE ", g->name);
  switch (below(g, 6)) {
  case 0:
    text_put(t, "key IN (SELECT key FROM %s ORDER BY key%s LIMIT %u)", g->name,
             chance(g, 2) ? " DESC" : "", below(g, 6));
    break;
  case 1: gen_where(g, t, 1); break;
  default: gen_range(g, t); break;
  }
}

/* An error that is no conflict, when some rows are written. */
static inline void write_failing(diff_gen *g, diff_text *t) {
  gen_literal a;
  gen_key(g, a);
  if (chance(g, 2)) {
    text_put(t,
             "UPDATE %s SET value=CASE WHEN key>%s THEN "
             "abs(-9223372036854775807-1) ELSE 1 END",
             g->name, a);
  } else {
    text_put(t,
             "INSERT OR REPLACE INTO %s SELECT key,CASE WHEN key>%s THEN "
             "abs(-9223372036854775807-1) ELSE 2 END FROM %s ORDER BY key",
             g->name, a, g->name);
  }
}

/* p's triggers write to kv, and raise errors afterwards. */
static inline void write_plain(diff_gen *g, diff_text *t) {
  static const char *const verbs[] = {"", " OR REPLACE", " OR IGNORE",
                                      " OR FAIL"};
  switch (below(g, 4)) {
  case 0:
    text_put(t, "DELETE FROM p WHERE key%s%u", comparisons[below(g, 5)],
             below(g, 40));
    break;
  case 1:
    text_put(t, "UPDATE p SET value=value+%u WHERE key%s%u", below(g, 9),
             comparisons[below(g, 5)], below(g, 40));
    break;
  default:
    text_put(t, "INSERT%s INTO p VALUES(%u,%u),(%u,%u)", PICK(g, verbs),
             below(g, 40), below(g, 40), below(g, 40), below(g, 40));
  }
}

static inline void gen_write(diff_gen *g, diff_text *t) {
  g->name = gen_tables[g->table];
  g->style = STYLE_PLAIN;
  g->is_safe = false;
  switch (below(g, 32)) {
  case 0: write_failing(g, t); break;
  case 1: write_bulk(g, t); break;
  case 2:
  case 3: write_insert_select(g, t); break;
  case 4:
  case 5:
  case 6:
  case 7: write_update_value(g, t); break;
  case 8:
  case 9:
  case 10: write_update_key(g, t); break;
  case 11: write_update_from(g, t); break;
  case 12:
  case 13:
  case 14:
  case 15:
  case 16: write_delete(g, t); break;
  case 17:
    if (g->config->actors == 1) {
      write_plain(g, t);
      break;
    } /* fallthrough */
  case 18: text_put(t, "INSERT INTO %s(value) VALUES(1)", g->name); break;
  case 19:
    if (chance(g, 4)) {
      text_put(t, "DELETE FROM %s", g->name);
      break;
    } /* fallthrough */
  default: write_insert(g, t); break;
  }
}

/* Another one is to write: nothing may be left open. */
static inline void gen_hand_over(diff_gen *g, diff_text *t) {
  text_put(t, "%s", chance(g, 4) ? "ROLLBACK" : "COMMIT");
  g->writer = (int)below(g, (unsigned)g->config->actors);
}

static inline void gen_control(diff_gen *g, diff_text *t) {
  static const char *const begins[] = {"BEGIN", "BEGIN IMMEDIATE",
                                       "BEGIN EXCLUSIVE"};
  char name = (char)('s' + below(g, 3));
  switch (below(g, 16)) {
  case 0:
  case 1:
  case 2: /* EXCLUSIVE would keep the ordinary tables' readers out */
    text_put(t, "%s", begins[below(g, g->config->actors > 1 ? 2 : 3)]);
    break;
  case 3:
  case 4:
  case 5:
  case 6: text_put(t, "COMMIT"); break;
  case 7: text_put(t, "ROLLBACK"); break;
  case 8:
  case 9:
  case 10: text_put(t, "SAVEPOINT %c", name); break;
  case 11:
  case 12: text_put(t, "RELEASE %c", name); break;
  default: text_put(t, "ROLLBACK TO %c", name); break;
  }
}

/* ---- Queries ------------------------------------------------------------- */

static inline const char *keep(diff_gen *g, diff_text *t) {
  const char *kept = arena_text(g->arena, t);
  text_clear(t);
  return kept;
}

/* The clause of `seed` once more, in a style and for another name. */
static inline const char *where_again(diff_gen *g, skv_prng seed,
                                      gen_style style, const char *name) {
  skv_prng before = g->rng;
  diff_text t = {0};
  g->rng = seed;
  g->style = style;
  g->name = name;
  gen_where(g, &t, 0);
  g->rng = before;
  const char *kept = arena_text(g->arena, &t);
  text_free(&t);
  return kept;
}

static inline void form_slice(diff_gen *g, diff_form *form, diff_text *t,
                              const char *table, const char *where) {
  form->relation = DIFF_SLICE;
  form->back = chance(g, 2);
  form->from = below(g, 4);
  form->length = below(g, 8);
  text_put(t,
           "SELECT key,value FROM %s m WHERE %s ORDER BY key%s LIMIT %zu "
           "OFFSET %zu",
           table, where, form->back ? " DESC" : "", form->length, form->from);
}

/* Rows with the least or greatest key. */
static inline void form_extreme(diff_gen *g, diff_form *form, diff_text *t,
                                const char *table, const char *where) {
  form->relation = DIFF_SLICE;
  form->back = chance(g, 2);
  form->from = 0;
  form->length = 1;
  text_put(t,
           "SELECT * FROM (SELECT %s(key) k,value FROM %s m WHERE %s) WHERE "
           "k IS NOT NULL",
           form->back ? "max" : "min", table, where);
}

static inline void form_count(diff_gen *g, diff_form *form, diff_text *t,
                              const char *table, const char *where) {
  form->relation = DIFF_COUNT;
  switch (below(g, 3)) {
  case 0:
    text_put(t, "SELECT count(*) FROM %s m WHERE %s", table, where);
    break;
  case 1:
    text_put(t, "SELECT coalesce(sum(1),0) FROM %s m WHERE %s", table, where);
    break;
  default:
    text_put(t, "SELECT coalesce(sum((%s) IS TRUE),0) FROM %s m", where, table);
  }
}

static inline void form_join(diff_gen *g, diff_form *form, diff_text *t,
                             const char *table, const char *where) {
  form->relation = DIFF_SAME;
  switch (below(g, 4)) {
  case 0:
    text_put(t,
             "SELECT m.key,m.value FROM %s m JOIN %s n ON m.key=n.key WHERE %s "
             "ORDER BY m.key",
             table, table, where);
    break;
  case 1:
    text_put(t,
             "SELECT m.key,n.value FROM %s n CROSS JOIN %s m ON m.key=n.key "
             "WHERE %s ORDER BY m.key",
             table, table, where);
    break;
  case 2:
    text_put(t,
             "SELECT m.key,m.value FROM %s m LEFT JOIN %s n ON n.key>=m.key "
             "AND n.key<=m.key WHERE %s ORDER BY m.key",
             table, table, where);
    break;
  default:
    text_put(t,
             "SELECT key,value FROM %s WHERE key IN (SELECT m.key FROM %s m "
             "WHERE %s) ORDER BY key",
             table, table, where);
  }
}

static inline void form_parts(diff_form *form, diff_text *t, const char *table,
                              const char *where, const char *again) {
  form->relation = DIFF_SAME;
  text_put(t,
           "SELECT key,value FROM (SELECT key,value FROM %s m WHERE (%s) AND "
           "value IS NULL UNION ALL SELECT key,value FROM %s m WHERE (%s) AND "
           "value IS NOT NULL) ORDER BY key",
           table, where, table, again);
}

static inline void gen_form(diff_gen *g, diff_form *form, const char *table,
                            skv_prng seed) {
  diff_text t = {0};
  const char *where = where_again(g, seed, (gen_style)below(g, STYLES), "m");
  switch (below(g, 9)) {
  case 0:
  case 1:
    form->relation = DIFF_SAME;
    text_put(&t, "SELECT key,value FROM %s m WHERE %s ORDER BY key", table,
             where);
    break;
  case 2:
    form->relation = DIFF_REVERSED;
    text_put(&t, "SELECT key,value FROM %s m WHERE %s ORDER BY key DESC", table,
             where);
    break;
  case 3: form_slice(g, form, &t, table, where); break;
  case 4: form_extreme(g, form, &t, table, where); break;
  case 5: form_join(g, form, &t, table, where); break;
  case 6:
    form_parts(form, &t, table, where, where_again(g, seed, STYLE_PLAIN, "m"));
    break;
  default: form_count(g, form, &t, table, where); break;
  }
  form->sql = keep(g, &t);
  text_free(&t);
}

/* A query and rewritings of it. */
static inline void query_rewritten(diff_gen *g, diff_op *op) {
  const char *table = gen_tables[g->table];
  diff_text t = {0};
  skv_prng seed = {skv_prng_u64(&g->rng)};
  g->is_safe = true;
  text_put(&t, "SELECT key,value FROM %s m WHERE %s ORDER BY key", table,
           where_again(g, seed, STYLE_PLAIN, "m"));
  op->sql = keep(g, &t);
  text_free(&t);
  op->form_count = 1 + (int)below(g, DIFF_FORMS);
  for (int i = 0; i < op->form_count; i++)
    gen_form(g, &op->forms[i], table, seed);
  g->is_safe = false;
}

/* A query that both answer: any operand, any order. */
static inline void query_free(diff_gen *g, diff_op *op) {
  static const char *const orders[] = {
      "m.key",         "m.key DESC",
      "m.key,m.value", "m.key DESC,m.value",
      "m.value,m.key", "m.key COLLATE NOCASE,m.key",
      "+m.key DESC"};
  static const char *const columns[] = {"m.key,m.value",
                                        "m.key",
                                        "m.value",
                                        "typeof(m.key),length(m.value)",
                                        "m.key,count(*) OVER ()",
                                        "lag(m.key) OVER (ORDER BY m.key)"};
  static const char *const sums[] = {"count(*)",
                                     "min(m.key)",
                                     "max(m.key)",
                                     "min(m.key),max(m.key),count(*)",
                                     "count(m.value),count(DISTINCT m.value)",
                                     "sum(length(m.value))"};
  const char *table = gen_tables[g->table];
  skv_prng seed = {skv_prng_u64(&g->rng)};
  const char *where = where_again(g, seed, STYLE_PLAIN, "m");
  diff_text t = {0};
  switch (below(g, 5)) {
  case 0:
    text_put(&t, "SELECT %s FROM %s m WHERE %s", PICK(g, sums), table, where);
    break;
  case 1:
    text_put(&t,
             "SELECT m.key,n.value FROM %s m LEFT JOIN %s n ON n.key%sm.key "
             "AND n.value IS NOT NULL WHERE (%s) AND m.key%s"
             "(SELECT max(key) FROM %s) ORDER BY 1,2 LIMIT 20",
             table, table, comparisons[below(g, 5)], where,
             comparisons[below(g, 5)], table);
    break;
  case 2:
    text_put(&t,
             "SELECT typeof(value),count(*),max(key) FROM %s m WHERE %s GROUP "
             "BY 1 ORDER BY 1",
             table, where);
    break;
  default:
    text_put(&t, "SELECT %s FROM %s m WHERE %s ORDER BY %s", PICK(g, columns),
             table, where, PICK(g, orders));
    if (chance(g, 3))
      text_put(&t, " LIMIT %u OFFSET %u", below(g, 8), below(g, 4));
  }
  op->sql = keep(g, &t);
  text_free(&t);
  op->form_count = 1;
  op->forms[0] = (diff_form){.relation = DIFF_SAME, .sql = op->sql};
}

/* One scan, so that its rows are those of its first step. */
static inline void query_cursor(diff_gen *g, diff_op *op) {
  diff_text t = {0};
  g->name = "m";
  text_put(&t, "SELECT key,value FROM %s m", gen_tables[g->table]);
  if (!chance(g, 3)) {
    text_put(&t, " WHERE ");
    if (chance(g, 4))
      term_in(g, &t, "m.key");
    else
      gen_range(g, &t);
  }
  text_put(&t, " ORDER BY key%s", chance(g, 2) ? " DESC" : "");
  op->sql = keep(g, &t);
  text_free(&t);
}

/* ---- Scripts ------------------------------------------------------------- */

static inline void gen_cursor_op(diff_gen *g, diff_op *op) {
  op->slot = (int)below(g, DIFF_SLOTS);
  switch (below(g, 8)) {
  case 0:
  case 1:
    op->kind = DIFF_OPEN;
    query_cursor(g, op);
    break;
  case 2: op->kind = DIFF_CLOSE; break;
  default:
    op->kind = DIFF_STEP;
    op->count = 1 + (int)below(g, chance(g, 5) ? 60 : 6);
  }
}

/* How often what happens, of 1,000. */
#define GEN_CURSOR 110
#define GEN_CONTROL 130
#define GEN_WRITE 400

static inline void gen_op(diff_gen *g, diff_op *op) {
  diff_text t = {0};
  *op = (diff_op){.kind = DIFF_WRITE};
  op->actor = (int)below(g, (unsigned)g->config->actors);
  g->table = (int)below(g, 2);
  g->style = STYLE_PLAIN;
  unsigned r = below(g, 1000);
  if (r < g->config->commands) {
    op->kind = DIFF_COMMAND;
    text_put(&t, "INSERT INTO kv(kv) VALUES('%s')",
             chance(g, 3) ? "optimize" : "flush");
  } else if ((r = below(g, 1000)) < 2) {
    op->kind = g->config->processes && chance(g, 2) ? DIFF_KILL : DIFF_REOPEN;
  } else if (g->config->actors > 1 && r < 12) {
    op->kind = r < 7 ? DIFF_PIN : DIFF_UNPIN;
  } else if (r < GEN_CURSOR) {
    gen_cursor_op(g, op);
  } else if (r < GEN_CURSOR + GEN_CONTROL) {
    op->kind = DIFF_CONTROL;
    op->actor = g->writer;
    if (g->config->actors > 1 && chance(g, 4))
      gen_hand_over(g, &t);
    else
      gen_control(g, &t);
  } else if (r < GEN_CURSOR + GEN_CONTROL + GEN_WRITE) {
    op->actor = g->writer;
    gen_write(g, &t);
  } else {
    op->kind = DIFF_QUERY;
    if (chance(g, 2))
      query_rewritten(g, op);
    else
      query_free(g, op);
  }
  if (t.len > 0) op->sql = keep(g, &t);
  text_free(&t);
}

/* With one table of either type pair: nine pairs. */
static inline void gen_begin(diff_gen *g, const diff_config *config,
                             uint64_t seed, diff_arena *arena) {
  *g = (diff_gen){.rng = {(seed + 7) * 0xd1342543de82ef95u},
                  .config = config,
                  .arena = arena};
  g->type[0] = (int)(seed / 16 % 3);
  g->type[1] = (int)(seed / 48 % 3);
}

#endif
