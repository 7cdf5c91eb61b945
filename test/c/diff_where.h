/*
 * The random scripts' operands and WHERE clauses.
 *
 * STYLES  A WHERE clause is rendered several times from one seed; the styles
 *   must select the same rows. That holds for operands of the key's class: the
 *   unary + takes the column's affinity away.
 */
#ifndef TEST_C_DIFF_WHERE_H
#define TEST_C_DIFF_WHERE_H

#include "engine/util/prng.h"
#include "test/c/diff.h"

enum { KEY_TEXT, KEY_BLOB, KEY_INT };

typedef enum gen_style {
  STYLE_PLAIN,
  STYLE_HIDE,   /* +key: no plan can use it */
  STYLE_EXPAND, /* IN as OR, BETWEEN as two bounds, < as NOT >= */
  STYLE_FLIP,   /* 'a' < key */
  STYLES
} gen_style;

typedef struct diff_gen {
  skv_prng rng;
  const diff_config *config;
  diff_arena *arena;
  int type[2];      /* of the keys of kv, k2 */
  int writer;       /* the actor that writes at the moment */
  int table;        /* that the statement is about */
  const char *name; /* its name or alias in the statement */
  gen_style style;  /* of WHERE */
  bool is_safe;     /* operands of the key's class only */
  bool no_subquery;
  bool is_or; /* what is generated stands under an OR */
} diff_gen;

static const char *const gen_tables[] = {"kv", "k2"};

typedef char gen_literal[200];

static inline unsigned below(diff_gen *g, unsigned n) {
  return (unsigned)skv_prng_below(&g->rng, n);
}

static inline bool chance(diff_gen *g, unsigned one_in) {
  return below(g, one_in) == 0;
}

#define PICK(g, list) (list)[below(g, sizeof(list) / sizeof *(list))]

/* ---- Literals ------------------------------------------------------------ */

static const char *const text_extremes[] = {"''",           "char(0)",
                                            "'a'||char(0)", "'a'||char(0)||'b'",
                                            "'a'||char(1)", "char(0x10ffff)",
                                            "char(0xffff)", "char(0x1f600)",
                                            "'é'",          "'€'",
                                            "'A'",          "'B'",
                                            "'aa'",         "'a '",
                                            "'ab'",         "'user:'",
                                            "'user:1'",     "'USER:1'",
                                            "'5'",          "'05'",
                                            "'10'",         "'5.0'",
                                            "'*'",          "'a*'",
                                            "'k0'",         "'k05'",
                                            "'k099x'",      "char(0x7f)",
                                            "char(0x80)",   "'zz'"};
static const char *const int_extremes[] = {"9223372036854775807",
                                           "(-9223372036854775807-1)",
                                           "9223372036854775806",
                                           "-9223372036854775807",
                                           "9007199254740993",
                                           "9007199254740992",
                                           "-1",
                                           "-256",
                                           "255",
                                           "256",
                                           "65536",
                                           "4294967296",
                                           "-4294967296",
                                           "0"};
static const char *const blob_extremes[] = {
    "x''",       "x'00'",     "x'0000'", "x'ff'",   "x'ffff'",
    "x'ffffff'", "x'ff00'",   "x'fe'",   "x'6100'", "x'6161'",
    "x'61ff'",   "x'61ffff'", "x'62'",   "x'7573'", "zeroblob(300)"};
/* Of some other class than the keys, mostly. */
static const char *const odd_operands[] = {"NULL",
                                           "NULL",
                                           "5",
                                           "2.5",
                                           "-2.5",
                                           "'5'",
                                           "'2.5'",
                                           "'abc'",
                                           "'7x'",
                                           "x'61'",
                                           "x''",
                                           "''",
                                           "'a'",
                                           "1e300",
                                           "-1e300",
                                           "9e999",
                                           "-9e999",
                                           "5.0",
                                           "9223372036854775807.0",
                                           "-9223372036854775808.0",
                                           "'-1'",
                                           "x'35'",
                                           "10"};
/* No key of that type. */
static const char *const wrong_keys[3][4] = {
    {"x'61'", "x''", "zeroblob(3)", "x'ff'"},
    {"'a'", "5", "2.5", "''"},
    {"'abc'", "1.5", "x'35'", "'7x'"}};
static const char *const patterns[] = {
    "'a*'", "'k0*'",    "'k0[0-4]*'", "'k?1*'",   "'*1'",   "'?'",
    "''",   "'user:*'", "'k00?'",     "'[a-c]*'", "'*'",    "'a'",
    "'é*'", "'5*'",     "'u*2'",      "'K0*'",    "'k05*'", "'aaaaa*'"};
static const char *const likes[] = {"'a%'",  "'USER:%'", "'%1'", "'_'", "''",
                                    "'k0%'", "'K_5%'",   "'%'",  "'5%'"};

static inline void gen_text_key(diff_gen *g, char *out, size_t size) {
  unsigned r = below(g, 24);
  if (r < 9)
    snprintf(out, size, "'%c'", 'a' + (char)below(g, 8));
  else if (r < 17)
    snprintf(out, size, "'k%03u'", below(g, 100));
  else if (r < 19)
    snprintf(out, size, "'user:%u'", below(g, 9));
  else if (r < 23)
    snprintf(out, size, "%s", PICK(g, text_extremes));
  else
    snprintf(out, size, "printf('%%.*c',%u,'a')",
             chance(g, 8) ? 5000 : 250 + below(g, 8));
}

static inline void gen_int_key(diff_gen *g, char *out, size_t size) {
  unsigned r = below(g, 24);
  if (r < 9)
    snprintf(out, size, "%u", below(g, 8));
  else if (r < 17)
    snprintf(out, size, "%u", 10 + below(g, 100));
  else if (r < 20)
    snprintf(out, size, "-%u", 1 + below(g, 20));
  else if (r < 23)
    snprintf(out, size, "%s", PICK(g, int_extremes));
  else
    snprintf(out, size, "%u.0", below(g, 30));
}

static inline void gen_blob_key(diff_gen *g, char *out, size_t size) {
  unsigned r = below(g, 24);
  if (r < 9)
    snprintf(out, size, "x'%02x'", 0x61 + below(g, 8));
  else if (r < 17)
    snprintf(out, size, "CAST('k%03u' AS BLOB)", below(g, 100));
  else if (r < 19)
    snprintf(out, size, "x'%02x%02x'", below(g, 256), below(g, 256));
  else if (r < 23)
    snprintf(out, size, "%s", PICK(g, blob_extremes));
  else
    snprintf(out, size, "CAST(printf('%%.*c',%u,'a') AS BLOB)",
             chance(g, 8) ? 5000 : 250 + below(g, 8));
}

/* A key of the table's type. */
static inline void gen_key(diff_gen *g, gen_literal out) {
  switch (g->type[g->table]) {
  case KEY_TEXT: gen_text_key(g, out, sizeof(gen_literal)); break;
  case KEY_BLOB: gen_blob_key(g, out, sizeof(gen_literal)); break;
  default: gen_int_key(g, out, sizeof(gen_literal)); break;
  }
}

static inline void gen_operand(diff_gen *g, gen_literal out) {
  if (g->is_safe || !chance(g, 3))
    gen_key(g, out);
  else
    snprintf(out, sizeof(gen_literal), "%s", PICK(g, odd_operands));
}

/* A key to be written: now and then none at all. */
static inline void gen_new_key(diff_gen *g, bool may_be_wrong,
                               gen_literal out) {
  if (chance(g, 60))
    snprintf(out, sizeof(gen_literal), "NULL");
  else if (may_be_wrong && chance(g, 60))
    snprintf(out, sizeof(gen_literal), "%s",
             PICK(g, wrong_keys[g->type[g->table]]));
  else if (g->type[g->table] == KEY_INT && chance(g, 10))
    snprintf(out, sizeof(gen_literal), "'%u'", below(g, 30));
  else if (g->type[g->table] == KEY_TEXT && chance(g, 10))
    snprintf(out, sizeof(gen_literal), "%u", below(g, 30));
  else
    gen_key(g, out);
}

static inline void gen_random_text(diff_gen *g, diff_text *t, size_t n) {
  text_add(t, "'", 1);
  for (size_t i = 0; i < n; i++) {
    char c = (char)('a' + below(g, 26));
    text_add(t, &c, 1);
  }
  text_add(t, "'", 1);
}

static inline void gen_value(diff_gen *g, diff_text *t) {
  switch (below(g, 20)) {
  case 0:
  case 1:
  case 2:
  case 3:
  case 4:
  case 5: text_put(t, "%u", below(g, 12)); break;
  case 6:
    if (chance(g, 2))
      text_put(t, "'%u'", below(g, 12));
    else
      text_put(t, "%s", PICK(g, int_extremes));
    break;
  case 7: text_put(t, "%u.25", below(g, 1000)); break;
  case 8: text_put(t, "%s", chance(g, 2) ? "1e300" : "-9e999"); break;
  case 9:
  case 10: text_put(t, "NULL"); break;
  case 11: text_put(t, "%s", PICK(g, text_extremes)); break;
  case 12: text_put(t, "%s", PICK(g, blob_extremes)); break;
  case 13:
  case 14:
  case 15:
  case 16:
  case 17: gen_random_text(g, t, below(g, 90)); break;
  case 18: text_put(t, "printf('%%.*c',%u,'v')", below(g, 2000)); break;
  default:
    if (g->config->large && chance(g, 3))
      text_put(t, "zeroblob(%u)", 1000 + below(g, 120000));
    else
      text_put(t, "zeroblob(%u)", below(g, 700));
  }
}

/* ---- WHERE --------------------------------------------------------------- */

static const char *const comparisons[] = {
    "=", "<", ">", "<=", ">=", "=", "<>", "IS", "IS NOT"};

static inline void term_compare(diff_gen *g, diff_text *t, const char *key) {
  static const char *const flipped[] = {
      "=", ">", "<", ">=", "<=", "=", "<>", "IS", "IS NOT"};
  unsigned op = below(g, sizeof comparisons / sizeof *comparisons);
  gen_literal a;
  gen_operand(g, a);
  if (g->style == STYLE_FLIP) {
    text_put(t, "%s %s %s", a, flipped[op], key);
    return;
  }
  if (g->style == STYLE_EXPAND) {
    switch (op) {
    case 0: text_put(t, "(%s>=%s AND %s<=%s)", key, a, key, a); return;
    case 1: text_put(t, "NOT(%s>=%s)", key, a); return;
    case 2: text_put(t, "NOT(%s<=%s)", key, a); return;
    case 3: text_put(t, "(%s<%s OR %s=%s)", key, a, key, a); return;
    case 4: text_put(t, "(%s>%s OR %s=%s)", key, a, key, a); return;
    default: break;
    }
  }
  text_put(t, "%s %s %s", key, comparisons[op], a);
}

static inline void term_between(diff_gen *g, diff_text *t, const char *key) {
  bool no = chance(g, 4);
  gen_literal a, b;
  gen_operand(g, a);
  gen_operand(g, b);
  if (g->style == STYLE_EXPAND)
    text_put(t, "%s(%s>=%s AND %s<=%s)", no ? "NOT" : "", key, a, key, b);
  else if (g->style == STYLE_FLIP)
    text_put(t, "%s(%s<=%s AND %s>=%s)", no ? "NOT" : "", a, key, b, key);
  else
    text_put(t, "%s %sBETWEEN %s AND %s", key, no ? "NOT " : "", a, b);
}

static inline void term_in(diff_gen *g, diff_text *t, const char *key) {
  bool no = chance(g, 5);
  unsigned n = chance(g, 12) ? 40 : below(g, 6);
  bool expand = g->style == STYLE_EXPAND;
  if (expand)
    text_put(t, "%s(0", no ? "NOT" : "");
  else
    text_put(t, "%s %sIN (", key, no ? "NOT " : "");
  gen_literal a = "";
  for (unsigned i = 0; i < n; i++) {
    if (i == 0 || !chance(g, 5)) gen_operand(g, a); /* else the same twice */
    if (g->is_safe && chance(g, 30)) snprintf(a, sizeof a, "NULL");
    if (expand)
      text_put(t, " OR %s=%s", key, a);
    else
      text_put(t, "%s%s", i > 0 ? "," : "", a);
  }
  text_put(t, ")");
}

static inline void term_pattern(diff_gen *g, diff_text *t, const char *key) {
  bool is_like = chance(g, 3);
  const char *pattern = is_like ? PICK(g, likes) : PICK(g, patterns);
  if (chance(g, 4)) text_put(t, "NOT ");
  if (g->style == STYLE_EXPAND)
    text_put(t, "%s(%s,%s)", is_like ? "like" : "glob", pattern, key);
  else
    text_put(t, "%s %s %s", key, is_like ? "LIKE" : "GLOB", pattern);
}

/* SQLite makes an IN of k = 'a' OR k = 'b' COLLATE NOCASE, which compares as
 * the column does and loses rows, of every table: 3.40.1 does. */
static inline void term_collate(diff_gen *g, diff_text *t, const char *key) {
  static const char *const collations[] = {"NOCASE", "RTRIM", "BINARY"};
  gen_literal a;
  gen_operand(g, a);
  unsigned op = below(g, 5);
  const char *c = PICK(g, collations);
  if (g->is_or && op == 0)
    text_put(t, "(%s>=%s COLLATE %s AND %s<=%s COLLATE %s)", key, a, c, key, a,
             c);
  else
    text_put(t, "%s %s %s COLLATE %s", key, comparisons[op], a, c);
}

static inline void term_row(diff_gen *g, diff_text *t, const char *key) {
  unsigned op = 1 + below(g, 2);
  unsigned n = below(g, 12);
  gen_literal a;
  gen_operand(g, a);
  if (g->style == STYLE_EXPAND)
    text_put(t, "(%s%s%s OR (%s=%s AND %s.value%s%u))", key, comparisons[op], a,
             key, a, g->name, comparisons[op], n);
  else
    text_put(t, "(%s,%s.value)%s(%s,%u)", key, g->name, comparisons[op], a, n);
}

static inline void term_value(diff_gen *g, diff_text *t) {
  const char *hide = g->style == STYLE_HIDE ? "+" : "";
  switch (below(g, 4)) {
  case 0: text_put(t, "%s%s.value IS NULL", hide, g->name); break;
  case 1: text_put(t, "typeof(%s.value)='text'", g->name); break;
  default:
    text_put(t, "%s%s.value%s%u", hide, g->name, comparisons[below(g, 5)],
             below(g, 12));
  }
}

static inline void term_subquery(diff_gen *g, diff_text *t, const char *key) {
  const char *table = gen_tables[g->table];
  const char *op = comparisons[below(g, 5)];
  unsigned n = below(g, 12);
  gen_literal a;
  gen_operand(g, a);
  if (!g->is_safe && chance(g, 2)) {
    /* 5 and '5' are two values, and one text key */
    text_put(t, "%s IN (SELECT value FROM %s WHERE value>=%u)", key,
             gen_tables[below(g, 2)], n);
  } else if (chance(g, 2)) {
    text_put(t, "EXISTS(SELECT 1 FROM %s z WHERE z.key%s%s AND z.key<%s)",
             table, op, key, a);
  } else if (g->style == STYLE_EXPAND) {
    text_put(t, "EXISTS(SELECT 1 FROM %s z WHERE z.value%s%u AND z.key=%s.key)",
             table, op, n, g->name);
  } else {
    text_put(t, "%s IN (SELECT key FROM %s WHERE value%s%u)", key, table, op,
             n);
  }
}

static inline void gen_term(diff_gen *g, diff_text *t) {
  char key[24];
  snprintf(key, sizeof key, "%s%s.key", g->style == STYLE_HIDE ? "+" : "",
           g->name);
  switch (below(g, 16)) {
  case 0:
  case 1:
  case 2:
  case 3:
  case 4:
  case 5: term_compare(g, t, key); break;
  case 6:
  case 7: term_between(g, t, key); break;
  case 8:
  case 9:
  case 10: term_in(g, t, key); break;
  case 11: term_pattern(g, t, key); break;
  case 12: term_collate(g, t, key); break;
  case 13: term_row(g, t, key); break;
  case 14:
    if (!g->no_subquery) {
      term_subquery(g, t, key);
      break;
    } /* fallthrough */
  default: term_value(g, t); break;
  }
}

static inline void gen_where(diff_gen *g, diff_text *t, int depth) {
  unsigned n = 1 + below(g, 3);
  bool is_or = chance(g, 3), was_or = g->is_or;
  const char *joint = is_or ? " OR " : " AND ";
  g->is_or |= is_or;
  for (unsigned i = 0; i < n; i++) {
    if (i > 0) text_put(t, "%s", joint);
    if (depth < 2 && chance(g, 8)) {
      text_put(t, "%s(", chance(g, 4) ? "NOT" : "");
      gen_where(g, t, depth + 1);
      text_put(t, ")");
    } else {
      gen_term(g, t);
    }
  }
  g->is_or = was_or;
}

/* One range of keys: rows come in their order, whatever the plan. */
static inline void gen_range(diff_gen *g, diff_text *t) {
  gen_literal a, b;
  gen_key(g, a);
  gen_key(g, b);
  switch (below(g, 6)) {
  case 0: text_put(t, "%s.key=%s", g->name, a); break;
  case 1: text_put(t, "%s.key BETWEEN %s AND %s", g->name, a, b); break;
  case 2:
    text_put(t, "%s.key>=%s AND %s.key<%s", g->name, a, g->name, b);
    break;
  case 3:
    text_put(t, "%s.key>%s AND %s.key<=%s", g->name, a, g->name, b);
    break;
  case 4: text_put(t, "%s.key<%s", g->name, a); break;
  default: text_put(t, "%s.key=%s", g->name, b); break;
  }
}

#endif
