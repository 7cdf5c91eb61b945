/* The look of health.h. */
#include "ext/httpd/health.h"

#include <string.h>

#define HEALTH_STALL_MS 10000

/* The two figures that decide. */
typedef struct health_figures {
  bool is_read_only;
  bool is_stalled;
} health_figures;

static int health_take(void *arg, const char *name, double value,
                       const char *unit, const char *help) {
  health_figures *figures = arg;
  (void)unit;
  (void)help;
  if (strcmp(name, "stratakv_read_only") == 0 && value != 0) {
    figures->is_read_only = true;
  }
  if (strcmp(name, "stratakv_stalled") == 0 && value != 0) {
    figures->is_stalled = true;
  }
  return 0;
}

void skvd_health_look(skvd_health *health, stratakv_store *store,
                      int64_t now_ms) {
  health_figures figures = {false, false};
  int rc = stratakv_stats(store, health_take, &figures, NULL);
  health->is_readable = rc == STRATAKV_OK;
  health->is_read_only = figures.is_read_only;
  if (!figures.is_stalled) {
    health->stalled_since = 0;
  } else if (health->stalled_since == 0) {
    health->stalled_since = now_ms;
  }
}

bool skvd_health_is_stalled(const skvd_health *health, int64_t now_ms) {
  int64_t since = health->stalled_since;
  return since != 0 && now_ms - since > HEALTH_STALL_MS;
}
