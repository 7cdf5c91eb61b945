/*
 * Points: named places between two steps of an operation, where tests stop,
 * kill or schedule the one who passes. Nothing in release builds.
 *
 * NAMES  "module.what_just_happened", "commit.appended". A name stands in one
 *   place of the source. It is passed when the step before it failed, too, if
 *   the code goes the same way then.
 */
#ifndef SKV_UTIL_POINT_H
#define SKV_UTIL_POINT_H

/* Called at every point by whoever passes it, perhaps with locks held; it may
 * block or kill the process, and calls nothing of the engine. */
typedef void (*skv_point_hook)(void *arg, const char *name);

#ifdef SKV_TEST

#define SKV_POINT(name) skv_point(name)

/* NULL removes the hook. Set it while nobody passes a point. */
void skv_point_set(skv_point_hook hook, void *arg);

/* Without a hook, SKV_TEST_POINT="name:n" in the environment kills the process
 * with SIGKILL when it passes that point for the n-th time. */
void skv_point(const char *name);

#else
#define SKV_POINT(name) ((void)0)
#endif

#endif
