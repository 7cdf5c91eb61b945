/*
 * stratakvd: serves one store over HTTP.
 *
 * START  options, process limits, addresses, store, threads, servers. The
 *   addresses are taken before the store is opened, because they fail fast;
 *   who connects meanwhile waits in the backlog.
 *
 * SIGNALS  Blocked in every thread and awaited by this one. SIGTERM and
 *   SIGINT stop the daemon, a second one shortens the wait. SIGHUP is taken
 *   and has nothing to do.
 *
 * STOP  /readyz turns 503; no new connections; up to 10 s for what is in
 *   flight; queues are ended, which resumes every parked request; servers;
 *   store.
 *
 * EXIT  0 after SIGTERM or SIGINT, 1 usage, 2 store, 3 address.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "ext/httpd/app.h"
#include "ext/httpd/listen.h"
#include "ext/httpd/log.h"
#include "ext/httpd/lookup.h"
#include "ext/httpd/options.h"
#include "ext/httpd/server.h"
#include "stratakv.h"

#define MAIN_USAGE 1
#define MAIN_STORE 2
#define MAIN_ADDRESS 3

#define MAIN_DRAIN_MS 10000
#define MAIN_LAST_ANSWERS_MS 1000
#define MAIN_POLL_MS 20
#define MAIN_QUIET_POLLS 5
/* A commit that starts while stopping must not outlast the wait. */
#define MAIN_STOP_BUSY_MS 2000u

/* Everything that is started, in the order in which it is. */
typedef struct main_daemon {
  skvd_options options;
  skvd_listener listeners[SKVD_MAX_STRINGS];
  size_t listener_count;
  skvd_app app;
  skvd_server *servers[SKVD_MAX_STRINGS];
  size_t server_count;
  sigset_t signals; /* those that are awaited */
} main_daemon;

static int main_fail(int code, const char *message) {
  fprintf(stderr, "stratakvd: %s\n", message);
  return code;
}

/* ---- Start --------------------------------------------------------------- */

static void main_harden(main_daemon *d) {
  struct rlimit none = {0, 0};
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);      /* a log on a limited file is cut, no more */
  setrlimit(RLIMIT_CORE, &none); /* a core holds every value */
  prctl(PR_SET_DUMPABLE, 0);
  sigemptyset(&d->signals);
  sigaddset(&d->signals, SIGTERM);
  sigaddset(&d->signals, SIGINT);
  sigaddset(&d->signals, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &d->signals, NULL);
}

static int main_parse_addresses(main_daemon *d) {
  const skvd_strings *listen = &d->options.listen;
  char why[700];
  for (size_t i = 0; i < listen->count; i++) {
    skvd_listener *listener = &d->listeners[i];
    skvd_listen_rc rc =
        skvd_listener_parse(listen->at[i], listener, why, sizeof why);
    if (rc != SKVD_LISTEN_OK) {
      return main_fail(rc == SKVD_LISTEN_SYNTAX ? MAIN_USAGE : MAIN_ADDRESS,
                       why);
    }
    if (!listener->is_loopback && !d->options.is_insecure) {
      snprintf(why, sizeof why,
               "%s can be reached from other machines, and whoever reaches "
               "this daemon may read and write everything; give --insecure "
               "if that is wanted",
               listen->at[i]);
      return main_fail(MAIN_USAGE, why);
    }
    d->listener_count++;
  }
  return 0;
}

static int main_open_addresses(main_daemon *d) {
  char why[700];
  for (size_t i = 0; i < d->listener_count; i++) {
    if (skvd_listener_open(&d->listeners[i], why, sizeof why) !=
        SKVD_LISTEN_OK) {
      return main_fail(MAIN_ADDRESS, why);
    }
  }
  return 0;
}

static int main_check_backup_dir(const main_daemon *d) {
  const char *dir = d->options.backup_dir;
  struct stat info;
  char why[700];
  if (dir == NULL || (stat(dir, &info) == 0 && S_ISDIR(info.st_mode))) return 0;
  snprintf(why, sizeof why, "--backup-dir: there is no directory \"%.500s\"",
           dir);
  return main_fail(MAIN_USAGE, why);
}

/* A store without any table is a new one: it gets table kv. */
static int main_create_table(stratakv_store *store, stratakv_error *error) {
  stratakv_table_info info;
  size_t count;
  int rc = stratakv_tables(store, &info, 1, error, &count);
  if (rc != STRATAKV_OK || count > 0) return rc;
  return stratakv_table(store, SKVD_DEFAULT_TABLE, STRATAKV_KEY_TEXT, 1, error,
                        &info);
}

static int main_open_store(main_daemon *d) {
  stratakv_options options;
  stratakv_error error = {0, ""};
  int rc;
  stratakv_options_init(&options);
  options.create = 1;
  options.sync = d->options.sync;
  options.busy_timeout_ms = (uint32_t)d->options.busy_timeout_ms;
  options.memory = d->options.memory;
  rc = stratakv_open(d->options.store, &options, &error, &d->app.store);
  if (rc == STRATAKV_OK) rc = main_create_table(d->app.store, &error);
  return rc == STRATAKV_OK ? 0 : main_fail(MAIN_STORE, error.message);
}

static void main_tick(void *arg) {
  skvd_app *app = arg;
  int64_t now = skvd_now_ms();
  skvd_jobs_tick(app->jobs, now);
  skvd_health_look(&app->health, app->store, now);
}

static int main_start_threads(main_daemon *d) {
  skvd_app *app = &d->app;
  app->options = &d->options;
  app->bodies.limit = d->options.body_memory;
  app->commits = skvd_commit_queue_start(app->store);
  app->jobs = skvd_jobs_start(app->store, app->options->backup_dir);
  if (app->commits != NULL && app->jobs != NULL) {
    app->clock = skvd_clock_start(main_tick, app);
  }
  return app->clock != NULL ? 0
                            : main_fail(MAIN_ADDRESS, "cannot start threads");
}

static int main_start_servers(main_daemon *d) {
  char name[400];
  for (size_t i = 0; i < d->listener_count; i++) {
    d->servers[i] = skvd_server_start(&d->app, &d->listeners[i]);
    if (d->servers[i] == NULL) {
      return main_fail(MAIN_ADDRESS, "cannot start the HTTP threads");
    }
    d->server_count++;
    skvd_listener_name(&d->listeners[i], name, sizeof name);
    skvd_log_event("info", "listening on %s", name);
  }
  return 0;
}

static int main_start(main_daemon *d) {
  int code = main_parse_addresses(d);
  if (code == 0) code = main_check_backup_dir(d);
  if (code == 0) code = main_open_addresses(d);
  if (code == 0) code = main_open_store(d);
  if (code == 0) code = main_start_threads(d);
  if (code == 0) code = main_start_servers(d);
  return code;
}

/* ---- Run and stop -------------------------------------------------------- */

/* Wait for a signal that means to stop. */
static void main_wait(const main_daemon *d) {
  int signal_number;
  do {
    signal_number = sigwaitinfo(&d->signals, NULL);
  } while (signal_number != SIGTERM && signal_number != SIGINT);
  skvd_log_event("info", "stopping");
}

/* Wait until nothing is in flight, and nothing new has come in for a moment
 * (a client may be just about to use a connection that it holds), for at most
 * ms; a further signal ends the wait. */
static void main_drain(const main_daemon *d, int64_t ms) {
  struct timespec poll = {0, MAIN_POLL_MS * 1000000};
  int64_t end = skvd_now_ms() + ms;
  int quiet = 0;
  while (quiet < MAIN_QUIET_POLLS && skvd_now_ms() < end) {
    int signal_number = sigtimedwait(&d->signals, NULL, &poll);
    if (signal_number == SIGTERM || signal_number == SIGINT) return;
    quiet = d->app.in_flight > 0 ? 0 : quiet + 1;
  }
}

/* End the queues: every parked request is resumed by this. */
static void main_stop_threads(main_daemon *d) {
  if (d->app.commits != NULL) skvd_commit_queue_stop(d->app.commits);
  if (d->app.jobs != NULL) skvd_jobs_stop(d->app.jobs);
}

static void main_free_threads(main_daemon *d) {
  skvd_clock_stop(d->app.clock);
  skvd_jobs_free(d->app.jobs);
  skvd_commit_queue_free(d->app.commits);
}

static void main_close_store(main_daemon *d) {
  stratakv_error error = {0, ""};
  if (d->app.store != NULL &&
      stratakv_close(d->app.store, &error) != STRATAKV_OK) {
    skvd_log_event("warning", "closing the store: %s", error.message);
  }
}

/* Take down whatever was started. */
static void main_stop(main_daemon *d) {
  d->app.is_stopping = true;
  for (size_t i = 0; i < d->server_count; i++) {
    skvd_server_quiesce(d->servers[i]);
  }
  if (d->server_count > 0) {
    uint64_t busy = d->options.busy_timeout_ms;
    if (busy > MAIN_STOP_BUSY_MS) busy = MAIN_STOP_BUSY_MS;
    stratakv_set_busy_timeout(d->app.store, (uint32_t)busy);
    main_drain(d, MAIN_DRAIN_MS);
  }
  main_stop_threads(d);
  if (d->app.in_flight > 0) main_drain(d, MAIN_LAST_ANSWERS_MS);
  for (size_t i = 0; i < d->server_count; i++) skvd_server_stop(d->servers[i]);
  main_free_threads(d);
  for (size_t i = 0; i < d->listener_count; i++) {
    skvd_listener_close(&d->listeners[i]);
  }
  main_close_store(d);
}

int main(int argc, char **argv) {
  static main_daemon d;
  char message[700];
  long cores = sysconf(_SC_NPROCESSORS_ONLN);
  skvd_wish wish =
      skvd_options_parse(argc, argv, cores < 1 ? 1 : (unsigned)cores,
                         &d.options, message, sizeof message);
  int code;
  if (wish == SKVD_HELP) {
    skvd_options_help(stdout);
    return 0;
  }
  if (wish == SKVD_USAGE) {
    main_fail(MAIN_USAGE, message);
    fputs("Try stratakvd --help.\n", stderr);
    return MAIN_USAGE;
  }
  main_harden(&d);
  code = main_start(&d);
  if (code == 0) main_wait(&d);
  main_stop(&d);
  return code;
}
