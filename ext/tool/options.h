/*
 * Options: from the command line to one struct.
 *
 * PURPOSE  One table names every subcommand, its arguments, the options that
 *   it takes and its sentences; another every option. Parsing and the help
 *   texts come from them. Options may stand anywhere behind the subcommand;
 *   `--` ends them.
 *
 * Pure but for the printing of help.
 */
#ifndef SKVT_OPTIONS_H
#define SKVT_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define SKVT_MAX_WORDS 2

typedef enum skvt_format { SKVT_SQL, SKVT_NDJSON } skvt_format;

struct skvt_command;

/* Strings are borrowed from argv. */
typedef struct skvt_options {
  const struct skvt_command *command;
  const char *words[SKVT_MAX_WORDS]; /* its arguments; NULL: not given */
  const char *table;                 /* --table, or NULL */
  int format;                        /* --format, a skvt_format */
  int key_type;                      /* --key-type, STRATAKV_KEY_*; 0: none */
  bool is_quiet;                     /* --quiet */
  bool is_json;                      /* --json */
  bool has_entries;                  /* --entries */
} skvt_options;

typedef struct skvt_command {
  const char *name;
  const char *arguments; /* "STORE [FILE]" */
  unsigned least, most;  /* how many of them */
  const char *options;   /* the names of those that it takes, each followed
                            by a space */
  const char *summary;   /* one line */
  const char *help;      /* the rest, in lines */
  int (*run)(const skvt_options *options);
} skvt_command;

typedef enum skvt_wish {
  SKVT_RUN,
  SKVT_HELP,    /* of options->command, or of all if that is NULL */
  SKVT_VERSION, /* print the version */
  SKVT_USAGE    /* *message says what is wrong */
} skvt_wish;

skvt_wish skvt_options_parse(int argc, char **argv, skvt_options *out,
                             char *message, size_t size);

/* Print the help of a subcommand, or of all if it is NULL. */
void skvt_options_help(FILE *file, const skvt_command *command);

#endif
