/*
 * stratakv-tool: what its subcommands share.
 *
 * EXIT CODES  The same for all of them, and stable:
 *   0  done, and nothing was wrong
 *   1  something is wrong with the data: damage was found, entries were lost,
 *      a line of the input is no entry
 *   2  it could not be done: wrong usage, no such store, a full disk
 *   A signal ends the tool as one does, after it has cleaned up.
 *
 * ERRORS  One line on standard error, beginning with "stratakv-tool: ".
 */
#ifndef SKVT_TOOL_H
#define SKVT_TOOL_H

#include <stdbool.h>

#include "ext/tool/options.h"
#include "stratakv.h"

#define SKVT_OK 0
#define SKVT_DAMAGE 1
#define SKVT_FAILED 2

/* Print a line of error and return `code`. */
int skvt_fail(int code, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* The same with what a call of the store says; the exit code is SKVT_DAMAGE
 * for damage, else SKVT_FAILED. An interrupt prints nothing. */
int skvt_fail_store(int code, const stratakv_error *error);

/* Open the store to be read; NULL if it fails, with the exit code in *code. */
stratakv_store *skvt_open(const char *path, int *code);
/* The same to be written, and made if it is missing. */
stratakv_store *skvt_create(const char *path, int *code);

/* Did SIGINT, SIGTERM or SIGHUP come? Long work then stops. */
bool skvt_is_interrupted(void);
/* Has the form of stratakv_range.poll. */
int skvt_poll(void *unused);

/* The subcommands; each returns an exit code. */
int skvt_run_check(const skvt_options *options);
int skvt_run_backup(const skvt_options *options);
int skvt_run_salvage(const skvt_options *options);
int skvt_run_dump(const skvt_options *options);
int skvt_run_load(const skvt_options *options);
int skvt_run_stat(const skvt_options *options);
int skvt_run_inspect(const skvt_options *options);

#endif
