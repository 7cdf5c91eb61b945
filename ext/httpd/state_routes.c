/*
 * The daemon's and the store's state: /healthz, /readyz, /v1/stats,
 * /v1/version.
 */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "ext/httpd/request.h"
#include "ext/json/stats.h"

#define STATE_TEXT "text/plain; charset=utf-8"

static void state_healthz(skvd_request *request) {
  skvd_answer_text(request, 200, STATE_TEXT, "ok\n");
}

/* ---- /readyz ------------------------------------------------------------- */

typedef struct state_check {
  const char *name;
  bool is_ok;
} state_check;

static void state_readyz(skvd_request *request) {
  skvd_app *app = request->app;
  char text[300] = "";
  size_t len = 0;
  bool is_ready = true;
  skvd_health_look(&app->health, app->store, skvd_now_ms());
  const state_check checks[] = {
      {"running", !app->is_stopping},
      {"readable", app->health.is_readable},
      {"writable", !app->health.is_read_only},
      {"not stalled", !skvd_health_is_stalled(&app->health, skvd_now_ms())},
  };
  for (size_t i = 0; i < sizeof checks / sizeof checks[0]; i++) {
    is_ready = is_ready && checks[i].is_ok;
    len += (size_t)snprintf(text + len, sizeof text - len, "%s: %s\n",
                            checks[i].name, checks[i].is_ok ? "ok" : "no");
  }
  if (skvd_request_param(request, "verbose") == NULL) {
    strcpy(text, is_ready ? "ok\n" : "not ready\n");
  }
  skvd_answer_text(request, is_ready ? 200 : 503, STATE_TEXT, text);
  if (!is_ready) skvd_answer_header(request, "Retry-After", "1");
}

/* ---- /v1/stats ----------------------------------------------------------- */

static void state_stats(skvd_request *request) {
  stratakv_error error = {0, ""};
  json_t *json;
  int rc = skv_json_stats(request->app->store, &error, &json);
  if (rc == STRATAKV_OK)
    skvd_answer_json(request, 200, "application/json", json);
  else
    skvd_answer_store_error(request, rc, &error);
}

/* ---- /v1/version --------------------------------------------------------- */

static void state_version(skvd_request *request) {
  skvd_answer_json(request, 200, "application/json",
                   json_pack("{s:s,s:s}", "daemon", STRATAKV_VERSION, "engine",
                             STRATAKV_VERSION));
}

/* ---- The table ----------------------------------------------------------- */

static const char *const state_no_params[] = {NULL};
static const char *const state_verbose[] = {"verbose", NULL};

const skvd_route skvd_state_routes[] = {
    {"/healthz",
     "/healthz",
     false,
     false,
     NULL,
     {{"GET", SKVD_STATE, state_no_params, state_healthz},
      {NULL, 0, NULL, NULL}}},
    {"/readyz",
     "/readyz",
     false,
     false,
     NULL,
     {{"GET", SKVD_STATE, state_verbose, state_readyz}, {NULL, 0, NULL, NULL}}},
    {"/v1/stats",
     "/v1/stats",
     false,
     false,
     NULL,
     {{"GET", SKVD_STATE, state_no_params, state_stats},
      {NULL, 0, NULL, NULL}}},
    {"/v1/version",
     "/v1/version",
     false,
     false,
     NULL,
     {{"GET", SKVD_STATE, state_no_params, state_version},
      {NULL, 0, NULL, NULL}}},
};
const size_t skvd_state_route_count =
    sizeof skvd_state_routes / sizeof skvd_state_routes[0];
