/*
 * Subcommands on a whole store: check, backup, salvage.
 */
#include <inttypes.h>
#include <stdio.h>

#include "ext/tool/output.h"
#include "ext/tool/tool.h"
#include "ext/tool/watch.h"

static const char *plural(uint64_t n) { return n == 1 ? "" : "s"; }

/* ---- check --------------------------------------------------------------- */

/* A store that is too damaged to be opened has been found damaged. */
static int check_unopened(const skvt_options *options, int rc,
                          const stratakv_error *error) {
  stratakv_finding finding = {options->words[0], UINT64_MAX, STRATAKV_DAMAGE,
                              error->message};
  if (rc != STRATAKV_CORRUPT) return skvt_fail_store(rc, error);
  if (!options->is_quiet) skvt_print_finding(&finding);
  return skvt_fail(SKVT_DAMAGE,
                   "the store cannot be opened; stratakv-tool salvage may "
                   "make a new one of what is left");
}

int skvt_run_check(const skvt_options *options) {
  stratakv_options open;
  stratakv_error error = {0, ""};
  stratakv_store *store;
  skvt_watch watch;
  int rc;
  stratakv_options_init(&open);
  open.read_only = 1;
  rc = stratakv_open(options->words[0], &open, &error, &store);
  if (rc != STRATAKV_OK) return check_unopened(options, rc, &error);
  skvt_watch_begin(&watch, "check", options->is_quiet);
  rc = stratakv_check(store, &watch.store, &error);
  skvt_watch_end(&watch);
  stratakv_close(store, NULL);
  if (watch.damages == 0)
    return rc == STRATAKV_OK ? SKVT_OK : skvt_fail_store(rc, &error);
  if (rc != STRATAKV_CORRUPT) { /* there may be more */
    (void)skvt_fail_store(rc, &error);
  }
  return SKVT_DAMAGE;
}

/* ---- backup -------------------------------------------------------------- */

int skvt_run_backup(const skvt_options *options) {
  stratakv_error error = {0, ""};
  skvt_watch watch;
  uint64_t lsn = 0;
  int code;
  int rc;
  stratakv_store *store = skvt_open(options->words[0], &code);
  if (store == NULL) return code;
  skvt_watch_begin(&watch, "backup", options->is_quiet);
  rc = stratakv_backup(store, NULL, options->words[1], &watch.store, &error,
                       &lsn);
  skvt_watch_end(&watch);
  stratakv_close(store, NULL);
  if (rc != STRATAKV_OK) return skvt_fail_store(rc, &error);
  if (!options->is_quiet) {
    skvt_out_line("%s holds every version below %" PRIu64, options->words[1],
                  lsn);
  }
  return SKVT_OK;
}

/* ---- salvage ------------------------------------------------------------- */

int skvt_run_salvage(const skvt_options *options) {
  stratakv_error error = {0, ""};
  stratakv_salvaged kept = {0, 0, 0};
  skvt_watch watch;
  int rc;
  skvt_watch_begin(&watch, "salvage", options->is_quiet);
  rc = stratakv_salvage(options->words[0], options->words[1], &watch.store,
                        &error, &kept);
  skvt_watch_end(&watch);
  if (rc == STRATAKV_INTERRUPT) return SKVT_FAILED;
  if (rc != STRATAKV_OK) return skvt_fail(SKVT_FAILED, "%s", error.message);
  if (!options->is_quiet) {
    skvt_out_line("kept %" PRIu64 " entr%s in %" PRIu64 " table%s; %" PRIu64
                  " finding%s of damage",
                  kept.entries, kept.entries == 1 ? "y" : "ies", kept.tables,
                  plural(kept.tables), kept.findings, plural(kept.findings));
  }
  return kept.findings > 0 ? SKVT_DAMAGE : SKVT_OK;
}
