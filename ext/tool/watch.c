/* The callbacks of watch.h. */
#include "ext/tool/watch.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ext/tool/output.h"
#include "ext/tool/tool.h"

static void watch_wipe(skvt_watch *watch) {
  if (watch->percent < 0) return;
  fputs("\r\033[K", stderr);
  watch->percent = -1;
}

static int watch_progress(void *arg, double done) {
  skvt_watch *watch = arg;
  int percent = done < 0 ? 0 : done > 1 ? 100 : (int)(done * 100);
  if (watch->is_shown && percent != watch->percent) {
    watch->percent = percent;
    fprintf(stderr, "\r%s: %d%%", watch->name, percent);
  }
  return skvt_poll(NULL);
}

void skvt_print_finding(const stratakv_finding *finding) {
  char offset[32] = "";
  if (finding->offset != UINT64_MAX) {
    snprintf(offset, sizeof offset, ":%" PRIu64, finding->offset);
  }
  skvt_out_safely(finding->file);
  skvt_out_text(offset);
  skvt_out_text(finding->severity == STRATAKV_NOTE ? ": note: " : ": damage: ");
  skvt_out_safely(finding->message);
  skvt_out_text("\n");
}

static int watch_report(void *arg, const stratakv_finding *finding) {
  skvt_watch *watch = arg;
  if (finding->severity == STRATAKV_NOTE) {
    watch->notes++;
  } else {
    watch->damages++;
  }
  if (!watch->is_quiet) {
    watch_wipe(watch);
    skvt_print_finding(finding);
  }
  return skvt_poll(NULL);
}

void skvt_watch_begin(skvt_watch *watch, const char *name, bool is_quiet) {
  memset(watch, 0, sizeof *watch);
  watch->store.report = watch_report;
  watch->store.progress = watch_progress;
  watch->store.arg = watch;
  watch->name = name;
  watch->is_quiet = is_quiet;
  watch->is_shown = !is_quiet && isatty(STDERR_FILENO);
  watch->percent = -1;
}

void skvt_watch_end(skvt_watch *watch) { watch_wipe(watch); }
