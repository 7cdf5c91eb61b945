/*
 * Argument parsing by a table: one row says an option's name, where its value
 * lives, what it accepts, and how it is described to people.
 */
#include "ext/sqlite/args.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

typedef enum option_kind {
  OPTION_PATH,  /* text in args.path */
  OPTION_TABLE, /* identifier in args.table */
  OPTION_WORD,  /* one of `words`, its index + `first` in an int */
  OPTION_COUNT, /* a number min..max in an int or uint32_t */
  OPTION_SIZE   /* a number with K, M, G, min..max in an uint64_t */
} option_kind;

typedef struct option_row {
  skv_sql_option_doc doc;
  option_kind kind;
  size_t offset;            /* of the member in skv_sql_args */
  const char *const *words; /* OPTION_WORD: NULL-terminated */
  int first;                /* OPTION_WORD: number of words[0] */
  uint64_t min;
  uint64_t max;
} option_row;

static const char *const words_key[] = {"text", "blob", "int", NULL};
static const char *const words_mode[] = {"rw", "ro", NULL};
static const char *const words_sync[] = {"full", "normal", "off", NULL};
static const char *const words_compression[] = {"none", "lz4", "zstd", NULL};
static const char *const words_switch[] = {"off", "on", NULL};

#define AT(member) offsetof(skv_sql_args, member)
#define MIB (1024u * 1024u)

static const option_row options[] = {
    {{"path", "directory, or :memory:", "<database file>-stratakv", "identity",
      "where the store is; relative to the database file's directory"},
     OPTION_PATH,
     AT(path),
     NULL,
     0,
     0,
     0},
    {{"table", "[A-Za-z_][A-Za-z0-9_]{0,63}", "kv", "identity",
      "the table within the store"},
     OPTION_TABLE,
     AT(table),
     NULL,
     0,
     0,
     0},
    {{"key", "text, blob or int", "text", "fixed at creation",
      "class of the keys"},
     OPTION_WORD,
     AT(key_type),
     words_key,
     STRATAKV_KEY_TEXT,
     0,
     0},
    {{"mode", "rw or ro", "rw", "connection", "ro refuses every write"},
     OPTION_WORD,
     AT(is_read_only),
     words_mode,
     0,
     0,
     0},
    {{"sync", "full, normal or off", "full", "connection",
      "when a commit is durable: at once, within 100 ms, when the system "
      "writes it"},
     OPTION_WORD,
     AT(sync),
     words_sync,
     STRATAKV_SYNC_FULL,
     0,
     0},
    {{"busy_timeout", "0..600000", "5000", "connection",
      "milliseconds to wait for another process"},
     OPTION_COUNT,
     AT(busy_timeout_ms),
     NULL,
     0,
     0,
     600000},
    {{"memory", "4M..64G", "32M", "process",
      "bytes for indexes, caches and buffers, quoted: '64M'; the first opener "
      "wins"},
     OPTION_SIZE,
     AT(memory),
     NULL,
     0,
     4 * MIB,
     (uint64_t)64 * 1024 * MIB},
    {{"compression", "none, lz4 or zstd", "lz4", "new segments",
      "how segments are compressed"},
     OPTION_WORD,
     AT(compression),
     words_compression,
     STRATAKV_COMPRESSION_NONE,
     0,
     0},
    {{"filter_bits", "0..20", "10", "new segments",
      "filter bits per key; 0 for none"},
     OPTION_COUNT,
     AT(filter_bits),
     NULL,
     0,
     0,
     20},
    {{"background", "on or off", "on", "process",
      "off flushes and compacts inside commits"},
     OPTION_WORD,
     AT(background),
     words_switch,
     0,
     0,
     0},
    {{"mmap", "on or off", "on", "process", "off reads segments with pread"},
     OPTION_WORD,
     AT(mmap),
     words_switch,
     0,
     0,
     0},
    {{"directonly", "on or off", "off", "connection",
      "on refuses use from triggers and views"},
     OPTION_WORD,
     AT(is_direct_only),
     words_switch,
     0,
     0,
     0},
};

#define OPTION_COUNT_OF (sizeof options / sizeof options[0])

_Static_assert(OPTION_COUNT_OF <= 32, "skv_sql_args.given has 32 bits");

static const char *const reserved_names[] = {"key", "value", "version",
                                             "expires_at", "ttl"};

/* ---- Pieces of text ---------------------------------------------------- */

typedef struct piece {
  const char *at;
  size_t len;
} piece;

static piece piece_trim(const char *at, size_t len) {
  piece p = {at, len};
  while (p.len > 0 && isspace((unsigned char)p.at[0])) {
    p.at++;
    p.len--;
  }
  while (p.len > 0 && isspace((unsigned char)p.at[p.len - 1])) p.len--;
  return p;
}

static int piece_is_quoted(piece p) {
  return p.len >= 2 && (p.at[0] == '\'' || p.at[0] == '"') &&
         p.at[p.len - 1] == p.at[0];
}

/* Copy p, unquoted, with a final zero. 0 if it does not fit. */
static int piece_copy(piece p, char *out, size_t capacity) {
  size_t n = 0;
  char quote = 0;
  if (piece_is_quoted(p)) {
    quote = p.at[0];
    p.at++;
    p.len -= 2;
  }
  for (size_t i = 0; i < p.len; i++) {
    if (n + 1 >= capacity) return 0;
    out[n++] = p.at[i];
    if (quote && p.at[i] == quote && i + 1 < p.len && p.at[i + 1] == quote) i++;
  }
  out[n] = 0;
  return 1;
}

/* ---- did you mean ------------------------------------------------------ */

#define SUGGEST_MAX 32u /* longer words get no suggestion */

static unsigned edit_distance(const char *a, const char *b) {
  unsigned row[SUGGEST_MAX + 1];
  size_t a_len = strlen(a);
  size_t b_len = strlen(b);
  if (a_len > SUGGEST_MAX || b_len > SUGGEST_MAX) return SUGGEST_MAX;
  for (size_t j = 0; j <= b_len; j++) row[j] = (unsigned)j;
  for (size_t i = 1; i <= a_len; i++) {
    unsigned diagonal = row[0];
    row[0] = (unsigned)i;
    for (size_t j = 1; j <= b_len; j++) {
      int differs =
          tolower((unsigned char)a[i - 1]) != tolower((unsigned char)b[j - 1]);
      unsigned best = diagonal + (differs ? 1 : 0);
      if (row[j] + 1 < best) best = row[j] + 1;
      if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
      diagonal = row[j];
      row[j] = best;
    }
  }
  return row[b_len];
}

const char *skv_sql_suggest(const char *word, const char *const *names,
                            size_t count) {
  const char *found = NULL;
  unsigned best = 3;
  for (size_t i = 0; i < count; i++) {
    unsigned distance = edit_distance(word, names[i]);
    if (distance < best && distance < strlen(word)) {
      best = distance;
      found = names[i];
    }
  }
  return found;
}

/* ---- Values ------------------------------------------------------------ */

/* "full, normal or off" */
static void words_list(const char *const *words, char *out, size_t capacity) {
  size_t n = 0;
  out[0] = 0;
  for (size_t i = 0; words[i] != NULL && n < capacity; i++) {
    const char *joint = i == 0 ? "" : words[i + 1] == NULL ? " or " : ", ";
    int written = snprintf(out + n, capacity - n, "%s%s", joint, words[i]);
    if (written < 0) return;
    n += (size_t)written;
  }
}

static int set_word(const option_row *row, const char *text, void *member,
                    char *message, size_t capacity) {
  char list[100];
  for (size_t i = 0; row->words[i] != NULL; i++) {
    if (strcasecmp(text, row->words[i]) != 0) continue;
    *(int *)member = row->first + (int)i;
    return 1;
  }
  words_list(row->words, list, sizeof list);
  snprintf(message, capacity, "option %s must be %s, not \"%.200s\"",
           row->doc.name, list, text);
  return 0;
}

static unsigned size_shift(char unit) {
  switch (tolower((unsigned char)unit)) {
  case 'k': return 10;
  case 'm': return 20;
  case 'g': return 30;
  default: return 0;
  }
}

/* Digits and, if with_unit, one of K, M, G. 0 if it is anything else. */
static int parse_number(const char *text, int with_unit, uint64_t *out) {
  uint64_t n = 0;
  const char *p = text;
  unsigned shift;
  for (; isdigit((unsigned char)*p); p++) {
    if (n > (UINT64_MAX - 9) / 10) return 0;
    n = n * 10 + (uint64_t)(*p - '0');
  }
  if (p == text) return 0;
  shift = with_unit ? size_shift(*p) : 0;
  if (shift != 0) p++;
  if (n > UINT64_MAX >> shift) return 0;
  n <<= shift;
  *out = n;
  return *p == 0;
}

static int set_number(const option_row *row, const char *text, void *member,
                      char *message, size_t capacity) {
  uint64_t n = 0;
  int is_size = row->kind == OPTION_SIZE;
  if (!parse_number(text, is_size, &n) || n < row->min || n > row->max) {
    snprintf(message, capacity, "option %s must be %s, not \"%.200s\"",
             row->doc.name, row->doc.accepts, text);
    return 0;
  }
  if (is_size) {
    *(uint64_t *)member = n;
  } else {
    *(uint32_t *)member = (uint32_t)n;
  }
  return 1;
}

static int is_identifier(const char *text) {
  size_t n = strlen(text);
  if (n == 0 || n > STRATAKV_MAX_TABLE_NAME) return 0;
  if (isdigit((unsigned char)text[0])) return 0;
  for (size_t i = 0; i < n; i++) {
    unsigned char c = (unsigned char)text[i];
    if (c >= 0x80 || (!isalnum(c) && c != '_')) return 0;
  }
  return 1;
}

static int set_text(const option_row *row, const char *text, char *member,
                    char *message, size_t capacity) {
  int is_table = row->kind == OPTION_TABLE;
  if (is_table ? !is_identifier(text) : text[0] == 0) {
    snprintf(message, capacity, "option %s must be %s, not \"%.200s\"",
             row->doc.name, row->doc.accepts, text);
    return 0;
  }
  memcpy(member, text, strlen(text) + 1); /* fits: text came from piece_copy */
  return 1;
}

static int set_value(skv_sql_args *args, const option_row *row,
                     const char *text, char *message, size_t capacity) {
  void *member = (char *)args + row->offset;
  switch (row->kind) {
  case OPTION_PATH:
  case OPTION_TABLE: return set_text(row, text, member, message, capacity);
  case OPTION_WORD: return set_word(row, text, member, message, capacity);
  case OPTION_COUNT:
  case OPTION_SIZE: return set_number(row, text, member, message, capacity);
  }
  return 0;
}

/* ---- Options ----------------------------------------------------------- */

static int unknown_option(const char *name, char *message, size_t capacity) {
  const char *names[OPTION_COUNT_OF];
  const char *guess;
  for (size_t i = 0; i < OPTION_COUNT_OF; i++) names[i] = options[i].doc.name;
  guess = skv_sql_suggest(name, names, OPTION_COUNT_OF);
  if (guess != NULL) {
    snprintf(message, capacity,
             "unknown option \"%.100s\" (did you mean \"%s\"?)", name, guess);
  } else {
    snprintf(message, capacity, "unknown option \"%.100s\"", name);
  }
  return 0;
}

static const option_row *find_option(const char *name) {
  for (size_t i = 0; i < OPTION_COUNT_OF; i++) {
    if (strcasecmp(name, options[i].doc.name) == 0) return &options[i];
  }
  return NULL;
}

static int set_option(skv_sql_args *args, const char *name, const char *value,
                      char *message, size_t capacity) {
  const option_row *row = find_option(name);
  unsigned bit;
  if (row == NULL) return unknown_option(name, message, capacity);
  bit = 1u << (row - options);
  if (args->given & bit) {
    snprintf(message, capacity, "option \"%s\" given twice", row->doc.name);
    return 0;
  }
  args->given |= bit;
  return set_value(args, row, value, message, capacity);
}

static int parse_argument(skv_sql_args *args, piece whole, int is_first,
                          char *message, size_t capacity) {
  char name[64];
  char value[SKV_SQL_MAX_PATH];
  const char *equals = memchr(whole.at, '=', whole.len);
  piece rest = whole;

  if (is_first && (equals == NULL || piece_is_quoted(whole))) {
    snprintf(name, sizeof name, "path");
  } else if (equals == NULL) {
    snprintf(message, capacity, "argument \"%.*s\" is not option=value",
             (int)(whole.len > 100 ? 100 : whole.len), whole.at);
    return 0;
  } else {
    size_t head = (size_t)(equals - whole.at);
    if (!piece_copy(piece_trim(whole.at, head), name, sizeof name)) {
      snprintf(message, capacity, "unknown option \"%.60s...\"", whole.at);
      return 0;
    }
    rest = piece_trim(equals + 1, whole.len - head - 1);
  }
  if (!piece_copy(rest, value, sizeof value)) {
    snprintf(message, capacity, "option %s is longer than %u bytes", name,
             SKV_SQL_MAX_PATH - 1);
    return 0;
  }
  return set_option(args, name, value, message, capacity);
}

void skv_sql_args_init(skv_sql_args *args) {
  memset(args, 0, sizeof *args);
  memcpy(args->table, "kv", 3);
  args->key_type = STRATAKV_KEY_TEXT;
  args->sync = STRATAKV_SYNC_FULL;
  args->busy_timeout_ms = 5000;
  args->memory = 32 * MIB;
  args->compression = STRATAKV_COMPRESSION_LZ4;
  args->filter_bits = 10;
  args->background = 1;
  args->mmap = 1;
}

int skv_sql_args_parse(skv_sql_args *args, int argc, const char *const *argv,
                       char *message, size_t capacity) {
  for (int i = 0; i < argc; i++) {
    piece whole = piece_trim(argv[i], strlen(argv[i]));
    if (whole.len == 0 && argc == 1) break; /* stratakv() */
    if (!parse_argument(args, whole, i == 0, message, capacity)) return 0;
  }
  return 1;
}

int skv_sql_args_set(skv_sql_args *args, const char *name, const char *value,
                     char *message, size_t capacity) {
  const option_row *row = find_option(name);
  if (row == NULL) return unknown_option(name, message, capacity);
  return set_value(args, row, value, message, capacity);
}

int skv_sql_name_clashes(const char *table_name) {
  size_t count = sizeof reserved_names / sizeof reserved_names[0];
  for (size_t i = 0; i < count; i++) {
    if (strcasecmp(table_name, reserved_names[i]) == 0) return 1;
  }
  return 0;
}

const char *skv_sql_key_type_name(int key_type) {
  return words_key[key_type - STRATAKV_KEY_TEXT];
}

const skv_sql_option_doc *skv_sql_option_at(size_t i) {
  return i < OPTION_COUNT_OF ? &options[i].doc : NULL;
}
