/* SPDX-License-Identifier: Apache-2.0 */
/* progress.c: one line at a time, each in one write, no more often than an eye (bar), a program
 * (JSON) or a log (plain) wants. */
#include "io/progress.h"
#include "base/os.h"
#include "io/size.h"
#include <math.h>
#include <stdio.h>

#define SILENT_US 1000000u
#define BAR_EVERY_US 100000u
#define JSON_EVERY_US 500000u
#define PLAIN_EVERY_US 5000000u
#define RATE_EVERY_US 250000u
#define RATE_MEMORY_S 3.0 /* what is that old counts about a third */
#define STDERR_FD 2
#define NUMBERS_BYTES 160 /* four texts of LB_SIZE_TEXT, a unit, what stands between them */
#define LINE_MAX_BYTES 288
#define BAR_WIDTH_MAX 40u
#define BAR_WIDTH_MIN 8u

void lb_progress_begin_on(lb_progress *p, u32 mode, const char *what, int fd, u64 (*now_us)(void)) {
    *p = (lb_progress){.fd = fd, .what = what, .now_us = now_us};
    if (mode == LB_PROGRESS_AUTO)
        mode = lb_os_is_terminal(fd) ? LB_PROGRESS_BAR : LB_PROGRESS_PLAIN;
    p->mode = mode;
    p->begin_us = p->rate_us = now_us();
    lb_mutex_init(&p->lock);
}

void lb_progress_begin(lb_progress *p, u32 mode, const char *what) {
    lb_progress_begin_on(p, mode, what, STDERR_FD, lb_os_now_us);
}

/* The first figure is the mean since the beginning; later ones count more the newer they are. */
static void follow_rate(lb_progress *p, u64 now) {
    u64 us = now - p->rate_us;
    if (us < RATE_EVERY_US)
        return;
    double s = (double)us / 1e6;
    double moved = p->done > p->rate_done ? (double)(p->done - p->rate_done) : 0;
    double keep = p->rate > 0 ? RATE_MEMORY_S / (RATE_MEMORY_S + s) : 0;
    p->rate = keep * p->rate + (1 - keep) * moved / s;
    p->rate_us = now;
    p->rate_done = p->done;
}

/* Seconds to the end; false where nobody knows. */
static bool seconds_left(const lb_progress *p, u64 *out) {
    if (p->total == 0 || p->done > p->total || p->rate < 1)
        return false;
    double s = (double)(p->total - p->done) / p->rate;
    *out = s < 1e9 ? (u64)(s + 0.5) : 1000000000;
    return true;
}

/* "1.20 GB"; of another unit the number alone. */
static const char *amount_text(const lb_progress *p, u64 n, char out[LB_SIZE_TEXT]) {
    if (!p->unit)
        return lb_size_text(n, out);
    (void)snprintf(out, LB_SIZE_TEXT, "%llu", (unsigned long long)n);
    return out;
}

/* "1.20 GB of 2.70 GB, 830 MB/s, 0:02 left", "512 of 2048 tokens, 120/s", as far as it is known. */
static void format_numbers(const lb_progress *p, char out[NUMBERS_BYTES]) {
    char done[LB_SIZE_TEXT], total[LB_SIZE_TEXT], rate[LB_SIZE_TEXT], left[LB_SIZE_TEXT];
    u64 s;
    int n = snprintf(out, NUMBERS_BYTES, "%s", amount_text(p, p->done, done));
    if (p->total)
        n +=
            snprintf(out + n, NUMBERS_BYTES - (size_t)n, " of %s", amount_text(p, p->total, total));
    if (p->unit)
        n += snprintf(out + n, NUMBERS_BYTES - (size_t)n, " %.16s", p->unit);
    if (p->rate >= 1)
        n += snprintf(out + n, NUMBERS_BYTES - (size_t)n, ", %s/s",
                      amount_text(p, (u64)p->rate, rate));
    if (seconds_left(p, &s))
        snprintf(out + n, NUMBERS_BYTES - (size_t)n, ", %s left", lb_clock_text(s, left));
}

/* "1.20 GB, 830 MB/s, 0:02 left": what a narrow terminal holds. */
static void format_few_numbers(const lb_progress *p, char out[NUMBERS_BYTES]) {
    char done[LB_SIZE_TEXT], rate[LB_SIZE_TEXT], left[LB_SIZE_TEXT];
    u64 s;
    int n = snprintf(out, NUMBERS_BYTES, "%s", amount_text(p, p->done, done));
    if (p->rate >= 1)
        n += snprintf(out + n, NUMBERS_BYTES - (size_t)n, ", %s/s",
                      amount_text(p, (u64)p->rate, rate));
    if (seconds_left(p, &s))
        snprintf(out + n, NUMBERS_BYTES - (size_t)n, ", %s left", lb_clock_text(s, left));
}

/* The richest form that fits in the columns: the bar goes first, then the operation's name, then
 * the total, then all but the percentage. Returns its length. */
static size_t format_bar(const lb_progress *p, u32 columns, char out[LINE_MAX_BYTES]) {
    char numbers[NUMBERS_BYTES], few[NUMBERS_BYTES], percent[16] = "", bar[BAR_WIDTH_MAX + 1];
    double part = p->total ? (double)LB_MIN(p->done, p->total) / (double)p->total : 0;
    format_numbers(p, numbers);
    format_few_numbers(p, few);
    if (p->total)
        snprintf(percent, sizeof percent, "%3.0f %% ", floor(100 * part));
    size_t name = strnlen(p->what, 64) + 1, rest = strlen(percent) + strlen(numbers);
    if (name + rest + BAR_WIDTH_MIN + 3 <= columns && p->total) {
        u32 width = LB_MIN(columns - (u32)(name + rest) - 3, BAR_WIDTH_MAX);
        u32 full = (u32)(part * width);
        memset(bar, '#', full);
        memset(bar + full, '.', width - full);
        bar[width] = 0;
        snprintf(out, LINE_MAX_BYTES, "%.64s %s[%s] %s", p->what, percent, bar, numbers);
    } else if (name + rest <= columns) {
        snprintf(out, LINE_MAX_BYTES, "%.64s %s%s", p->what, percent, numbers);
    } else if (rest <= columns) {
        snprintf(out, LINE_MAX_BYTES, "%s%s", percent, numbers);
    } else if (strlen(percent) + strlen(few) <= columns) {
        snprintf(out, LINE_MAX_BYTES, "%s%s", percent, few);
    } else {
        snprintf(out, LINE_MAX_BYTES, "%s", *percent ? percent : numbers);
    }
    size_t len = LB_MIN(strlen(out), (size_t)columns);
    out[len] = 0;
    return len;
}

/* Draws over the bar that stands there; blanks take away what the new one does not reach. The last
 * column stays free: a character there makes some terminals go to the next line. */
static void show_bar(lb_progress *p) {
    char text[LINE_MAX_BYTES], line[2 * LINE_MAX_BYTES];
    u32 columns = LB_MIN(lb_os_terminal_columns(p->fd), (u32)LINE_MAX_BYTES);
    size_t len = format_bar(p, LB_MAX(columns, 2u) - 1, text);
    /* On a terminal made narrower, blanks would wrap. */
    size_t wipe = LB_MIN((size_t)p->bar_columns, (size_t)LB_MAX(columns, 2u) - 1);
    int n = snprintf(line, sizeof line, "\r%-*s", (int)LB_MAX(len, wipe), text);
    lb_os_write_text(p->fd, (lb_str){line, (size_t)n});
    p->bar_columns = (u32)len;
}

static void show_json(const lb_progress *p) {
    char line[2 * LINE_MAX_BYTES], eta[24] = "null";
    u64 s;
    if (seconds_left(p, &s))
        snprintf(eta, sizeof eta, "%llu", (unsigned long long)s);
    int n =
        snprintf(line, sizeof line,
                 "{\"event\":\"progress\",\"what\":\"%.64s\",\"done\":%llu,\"total\":%llu,"
                 "\"rate\":%.0f,\"eta\":%s}\n",
                 p->what, (unsigned long long)p->done, (unsigned long long)p->total, p->rate, eta);
    lb_os_write_text(p->fd, (lb_str){line, (size_t)n});
}

static void show_plain(const lb_progress *p) {
    char numbers[NUMBERS_BYTES], line[2 * LINE_MAX_BYTES];
    format_numbers(p, numbers);
    int n = snprintf(line, sizeof line, "%.64s: %s\n", p->what, numbers);
    lb_os_write_text(p->fd, (lb_str){line, (size_t)n});
}

static void show(lb_progress *p, u64 now) {
    u64 every = p->mode == LB_PROGRESS_BAR    ? BAR_EVERY_US
                : p->mode == LB_PROGRESS_JSON ? JSON_EVERY_US
                                              : PLAIN_EVERY_US;
    u64 first = p->mode == LB_PROGRESS_PLAIN ? PLAIN_EVERY_US : SILENT_US;
    if (p->shown_us ? now - p->shown_us < every : now - p->begin_us < first)
        return;
    p->shown_us = now;
    if (p->mode == LB_PROGRESS_BAR)
        show_bar(p);
    else if (p->mode == LB_PROGRESS_JSON)
        show_json(p);
    else
        show_plain(p);
}

void lb_progress_update(void *progress, u64 done_bytes, u64 total_bytes) {
    lb_progress *p = progress;
    if (p->mode == LB_PROGRESS_NONE)
        return;
    lb_lock(&p->lock);
    u64 now = p->now_us();
    if (!p->started) {
        p->started = true;
        p->first_done = p->rate_done = p->unit ? 0 : done_bytes; /* bytes may be kept from before */
    }
    p->done = done_bytes;
    p->total = total_bytes;
    follow_rate(p, now);
    show(p, now);
    lb_unlock(&p->lock);
}

void lb_progress_note(void *progress, const char *text) {
    lb_progress *p = progress;
    char line[1024];
    int n;
    if (p->mode == LB_PROGRESS_NONE)
        return;
    lb_lock(&p->lock);
    if (p->mode == LB_PROGRESS_JSON)
        n = snprintf(line, sizeof line,
                     "{\"event\":\"note\",\"what\":\"%.64s\",\"text\":\"%.800s\"}\n", p->what,
                     text);
    else
        n = snprintf(line, sizeof line, "%s%*s%snote: %.800s\n", p->bar_columns ? "\r" : "",
                     (int)p->bar_columns, "", p->bar_columns ? "\r" : "", text);
    lb_os_write_text(p->fd, (lb_str){line, LB_MIN((size_t)n, sizeof line - 1)});
    p->bar_columns = 0;
    lb_unlock(&p->lock);
}

void lb_progress_end(lb_progress *p) {
    char line[2 * LINE_MAX_BYTES], done[LB_SIZE_TEXT], time[LB_SIZE_TEXT], rate[LB_SIZE_TEXT];
    int n = 0;
    if (!p->now_us)
        return;
    u64 us = p->now_us() - p->begin_us;
    if (p->mode == LB_PROGRESS_BAR && p->bar_columns) {
        n = snprintf(line, sizeof line, "\r%*s\r", (int)p->bar_columns, "");
    } else if (p->mode == LB_PROGRESS_PLAIN && p->shown_us) {
        double mean = us ? (double)(p->done - p->first_done) * 1e6 / (double)us : 0;
        n = snprintf(line, sizeof line, "%.64s: %s%s%.16s in %s, %s/s\n", p->what,
                     amount_text(p, p->done, done), p->unit ? " " : "", p->unit ? p->unit : "",
                     lb_duration_text(us, time), amount_text(p, (u64)mean, rate));
    } else if (p->mode == LB_PROGRESS_JSON && p->shown_us) {
        show_json(p);
    }
    lb_os_write_text(p->fd, (lb_str){line, (size_t)n});
    lb_mutex_deinit(&p->lock);
    *p = (lb_progress){.mode = LB_PROGRESS_NONE};
}
