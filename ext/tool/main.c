/*
 * stratakv-tool: check, backup, salvage, dump, load, stat, inspect.
 *
 * SIGNALS  SIGINT, SIGTERM and SIGHUP set a word that long work looks at, so
 *   that the store is closed and what was half made is removed; then the tool
 *   ends by that signal. SIGPIPE is the same by way of a failing write.
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "ext/tool/output.h"
#include "ext/tool/tool.h"

/* ---- What tool.h declares ------------------------------------------------ */

static volatile sig_atomic_t main_signal; /* the one that came, or 0 */

static void main_catch(int number) { main_signal = number; }

bool skvt_is_interrupted(void) { return main_signal != 0; }

int skvt_poll(void *unused) {
  (void)unused;
  return main_signal != 0 || skvt_out_failed();
}

int skvt_fail(int code, const char *format, ...) {
  va_list args;
  skvt_out_flush();
  fputs("stratakv-tool: ", stderr);
  va_start(args, format);
  vfprintf(stderr, format, args);
  va_end(args);
  fputc('\n', stderr);
  return code;
}

int skvt_fail_store(int code, const stratakv_error *error) {
  if (code == STRATAKV_INTERRUPT) return SKVT_FAILED;
  return skvt_fail(code == STRATAKV_CORRUPT ? SKVT_DAMAGE : SKVT_FAILED, "%s",
                   error->message);
}

static stratakv_store *main_open(const char *path,
                                 const stratakv_options *options, int *code) {
  stratakv_error error = {0, ""};
  stratakv_store *store;
  int rc = stratakv_open(path, options, &error, &store);
  *code = rc == STRATAKV_OK ? SKVT_OK : skvt_fail_store(rc, &error);
  return store;
}

stratakv_store *skvt_open(const char *path, int *code) {
  stratakv_options options;
  stratakv_options_init(&options);
  options.read_only = 1;
  return main_open(path, &options, code);
}

stratakv_store *skvt_create(const char *path, int *code) {
  stratakv_options options;
  stratakv_options_init(&options);
  options.create = 1;
  return main_open(path, &options, code);
}

/* ---- The program --------------------------------------------------------- */

static void main_handle_signals(void) {
  static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
  struct sigaction action;
  memset(&action, 0, sizeof action);
  sigemptyset(&action.sa_mask);
  for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
    struct sigaction old;
    action.sa_handler = main_catch;
    /* What a parent had ignored (nohup) stays so. */
    if (sigaction(numbers[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN) {
      sigaction(numbers[i], &action, NULL);
    }
  }
  action.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &action, NULL);
}

static void main_die_of(int number) {
  sigset_t set;
  signal(number, SIG_DFL);
  sigemptyset(&set);
  sigaddset(&set, number);
  sigprocmask(SIG_UNBLOCK, &set, NULL);
  raise(number);
}

/* The exit code, after the last of the output. */
static int main_finish(int code) {
  int failure = skvt_out_finish();
  if (main_signal != 0) main_die_of(main_signal);
  if (failure == EPIPE) main_die_of(SIGPIPE);
  if (failure != 0) {
    return skvt_fail(SKVT_FAILED, "cannot write: %s", strerror(failure));
  }
  return code;
}

int main(int argc, char **argv) {
  skvt_options options;
  char message[300];
  switch (skvt_options_parse(argc, argv, &options, message, sizeof message)) {
  case SKVT_HELP:
    skvt_options_help(stdout, options.command);
    return main_finish(SKVT_OK);
  case SKVT_VERSION:
    skvt_out_line("stratakv-tool %s", STRATAKV_VERSION);
    return main_finish(SKVT_OK);
  case SKVT_USAGE:
    skvt_fail(SKVT_FAILED, "%s", message);
    fprintf(stderr, "Try stratakv-tool help%s%s.\n",
            options.command != NULL ? " " : "",
            options.command != NULL ? options.command->name : "");
    return SKVT_FAILED;
  default: break;
  }
  main_handle_signals();
  return main_finish(options.command->run(&options));
}
