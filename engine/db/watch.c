/*
 * What check, backup and salvage tell their caller: see watch.h.
 */
#include "engine/db/watch.h"

#define WATCH_STEP (256u << 10) /* bytes between two calls of progress */

void skv_watcher_init(skv_watcher *watcher, const stratakv_watch *watch) {
  memset(watcher, 0, sizeof *watcher);
  if (watch) watcher->to = *watch;
}

static int watcher_stopped(skv_err *err) {
  return SKV_ERROR(err, STRATAKV_INTERRUPT, "interrupted");
}

static int watcher_tell(void *arg, skv_err *err) {
  skv_watcher *watcher = arg;
  if (!watcher->to.progress) return STRATAKV_OK;
  double part = 1.0;
  if (watcher->done < watcher->total)
    part = (double)watcher->done / (double)watcher->total;
  if (watcher->to.progress(watcher->to.arg, part) == 0) return STRATAKV_OK;
  return watcher_stopped(err);
}

int skv_watcher_step(skv_watcher *watcher, uint64_t bytes, skv_err *err) {
  watcher->done += bytes;
  if (watcher->told != 0 && watcher->done - watcher->told < WATCH_STEP)
    return STRATAKV_OK;
  watcher->told = watcher->done;
  return watcher_tell(watcher, err);
}

skv_pause skv_watcher_pause(skv_watcher *watcher) {
  return (skv_pause){watcher_tell, watcher};
}

void skv_watcher_end(skv_watcher *watcher) {
  if (watcher->to.progress) (void)watcher->to.progress(watcher->to.arg, 1.0);
}

int skv_watcher_find(skv_watcher *watcher, int severity, const char *file,
                     uint64_t at, skv_err *err, const char *text) {
  if (severity == STRATAKV_DAMAGE && watcher->damages++ == 0) {
    if (at == UINT64_MAX)
      SKV_ERROR(&watcher->first, STRATAKV_CORRUPT, "%s: %s", file, text);
    else
      skv_error_corrupt(&watcher->first, file, at, text);
  }
  stratakv_finding finding = {file, at, severity, text};
  if (!watcher->to.report || watcher->to.report(watcher->to.arg, &finding) == 0)
    return STRATAKV_OK;
  return watcher_stopped(err);
}
