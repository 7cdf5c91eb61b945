/*
 * Options: from the command line to one struct.
 *
 * PURPOSE  One table names every option, its argument, its default and its
 *   sentence; parsing, the help text and "did you mean" come from it.
 *
 * Pure: reads nothing but its arguments.
 */
#ifndef SKVD_OPTIONS_H
#define SKVD_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define SKVD_MAX_STRINGS 64

/* The arguments of a repeatable option; borrowed. */
typedef struct skvd_strings {
  size_t count;
  const char *at[SKVD_MAX_STRINGS];
} skvd_strings;

typedef struct skvd_options {
  const char *store;          /* the store's directory */
  skvd_strings listen;        /* addresses; never empty */
  skvd_strings allow_hosts;   /* further names for Host */
  skvd_strings allow_origins; /* origins that are let in */
  const char *backup_dir;     /* where backups go, or NULL */
  bool is_insecure;           /* non-loopback addresses are fine */
  bool no_legacy;             /* the original routes are off */
  bool log_keys;              /* targets go to the log */
  int sync;                   /* STRATAKV_SYNC_* */
  uint64_t memory;            /* of the engine, bytes */
  uint64_t busy_timeout_ms;   /* wait for other writers */
  uint64_t max_body;          /* bytes of one body */
  uint64_t body_memory;       /* bytes of all bodies together */
  uint64_t threads;           /* HTTP threads of one listener */
  uint64_t connections;       /* of one listener */
  uint64_t per_address;       /* of those, from one address */
} skvd_options;

typedef enum skvd_wish { SKVD_RUN, SKVD_HELP, SKVD_USAGE } skvd_wish;

/* Parse argv; `cores` sets the default of --threads. With SKVD_USAGE, what
 * is wrong stands in message. The struct borrows from argv. */
skvd_wish skvd_options_parse(int argc, char **argv, unsigned cores,
                             skvd_options *out, char *message, size_t size);

/* Print the help text. */
void skvd_options_help(FILE *file);

#endif
