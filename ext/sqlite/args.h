/*
 * The arguments of CREATE VIRTUAL TABLE ... USING stratakv(...).
 *
 * PURPOSE  Turns the verbatim argument texts that the core hands to xCreate
 *   and xConnect into options, or into one sentence that says what is wrong.
 *   Pure: values in, a value out; no file, no allocation, no SQLite.
 *
 * SYNTAX  argument = path | option = value. Trimmed, then '..' or ".." is
 *   unquoted with doubled quotes inside. The first argument is the path if it
 *   is quoted or has no '='. Option names and enumerations are
 *   case-insensitive; sizes take K, M, G (1024).
 *
 * NOT HERE  Where a path leads and who may open it (trust.c).
 */
#ifndef SKV_SQL_ARGS_H
#define SKV_SQL_ARGS_H

#include <stddef.h>
#include <stdint.h>

#include "stratakv.h"

#define SKV_SQL_MAX_PATH 4096u /* bytes of a path, its zero included */

typedef struct skv_sql_args {
  char path[SKV_SQL_MAX_PATH];             /* "" when not given */
  char table[STRATAKV_MAX_TABLE_NAME + 1]; /* table within the store */
  int key_type;                            /* STRATAKV_KEY_* */
  int is_read_only;                        /* mode=ro */
  int sync;                                /* STRATAKV_SYNC_* */
  uint32_t busy_timeout_ms;
  uint64_t memory; /* bytes */
  int compression; /* STRATAKV_COMPRESSION_* */
  int filter_bits;
  int background;
  int mmap;
  int is_direct_only; /* directonly=on */
  unsigned given;     /* bit per row of the option table: was named */
} skv_sql_args;

/* How SELECT * FROM stratakv_options describes an option. */
typedef struct skv_sql_option_doc {
  const char *name;
  const char *accepts;
  const char *initial;
  const char *scope;
  const char *help;
} skv_sql_option_doc;

/* Fill in the defaults. */
void skv_sql_args_init(skv_sql_args *args);

/*
 * Parse argv[0..argc). Returns 1, or 0 with a sentence in message (without a
 * final full stop and without the prefix "stratakv: "); options before the
 * wrong one are then filled in, the others keep their defaults.
 */
int skv_sql_args_parse(skv_sql_args *args, int argc, const char *const *argv,
                       char *message, size_t capacity);

/* Set one option by name, as the command `config` does; result as above. */
int skv_sql_args_set(skv_sql_args *args, const char *name, const char *value,
                     char *message, size_t capacity);

/* Does the name belong to a column of every table, so that a table of that
 * name would have two of them? */
int skv_sql_name_clashes(const char *table_name);

/* "text", "blob" or "int". */
const char *skv_sql_key_type_name(int key_type);

/* The option in row i, NULL behind the last. */
const skv_sql_option_doc *skv_sql_option_at(size_t i);

/* The name among names[0..count) that `word` was probably meant to be, or
 * NULL: at most two edits, and fewer than the word has letters. */
const char *skv_sql_suggest(const char *word, const char *const *names,
                            size_t count);

#endif /* SKV_SQL_ARGS_H */
