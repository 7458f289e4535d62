/* SPDX-License-Identifier: Apache-2.0 */
/* pty.c: runs a program on a terminal of its own and plays a script of keys and what should be on
 * the screen, for tests/cli/chat.sh.
 *
 *   pty ROWS COLUMNS SCRIPT COMMAND ARGUMENT...
 *
 * Lines of the script: type TEXT (\r \n \t \e \\ \xNN; nothing is added); wait TEXT (until the
 * screen shows it); gone TEXT (until it does not); size ROWS COLUMNS; signal NAME (to the program;
 * INT, TERM, TSTP, CONT, KILL); raw TEXT (until the program has written these bytes since the last
 * raw); stopped (until it stands still); hangup; pause MS; # a remark. Exit 0: all came true within
 * 20 s each, and prints how the program ended ("exit N" or "signal N") and whether the terminal is
 * as it was before ("restored" or "changed"). Exit 1: tells the line, and the screen. Exit 77:
 * there are no terminals to be had. */
#include "vt.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_MS 20000

static vt screen;
static int master, slave;
static pid_t child;
static int status;
static bool ended, stands;
static lb_buf raw;
static size_t raw_at;

static long now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void look_after_child(void) {
    int s;
    if (ended || waitpid(child, &s, WNOHANG | WUNTRACED | WCONTINUED) != child)
        return;
    if (WIFSTOPPED(s)) {
        stands = true;
    } else if (WIFCONTINUED(s)) {
        stands = false;
    } else {
        ended = true;
        status = s;
    }
}

/* Reads what comes within so many ms. */
static void drain(int ms) {
    char bytes[4096];
    struct pollfd p = {.fd = master, .events = POLLIN};
    while (poll(&p, 1, ms) > 0 && (p.revents & POLLIN)) {
        ssize_t n = read(master, bytes, sizeof bytes);
        if (n <= 0)
            break;
        vt_put(&screen, bytes, (size_t)n);
        lb_buf_put(&raw, bytes, (size_t)n);
        ms = 0;
    }
    look_after_child();
}

static size_t unescape(char *s) {
    char *to = s;
    for (const char *p = s; *p;) {
        if (*p != '\\') {
            *to++ = *p++;
            continue;
        }
        p++;
        if (*p == 'x') {
            char hex[3] = {p[1], p[1] ? p[2] : 0, 0};
            *to++ = (char)strtol(hex, NULL, 16);
            p += 1 + strlen(hex);
            continue;
        }
        *to++ = *p == 'r' ? '\r' : *p == 'n' ? '\n' : *p == 't' ? '\t' : *p == 'e' ? '\x1b' : *p;
        p += *p != 0;
    }
    *to = 0;
    return (size_t)(to - s);
}

static bool shows(const char *text) {
    lb_buf all = {0};
    size_t pos;
    vt_text(&screen, &all);
    bool found = lb_str_find(lb_buf_str(&all), lb_str_c(text), &pos);
    lb_buf_deinit(&all);
    return found;
}

static bool wrote(const char *text, size_t n) {
    size_t pos;
    lb_str rest = lb_str_sub(lb_buf_str(&raw), raw_at, raw.len);
    if (!lb_str_find(rest, (lb_str){text, n}, &pos))
        return false;
    raw_at += pos + n;
    return true;
}

static void set_size(unsigned rows, unsigned columns) {
    struct winsize w = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)columns};
    (void)ioctl(master, TIOCSWINSZ, &w);
    screen.rows = LB_MIN(rows, (unsigned)VT_ROWS_MAX);
    screen.columns = LB_MIN(columns, (unsigned)VT_COLUMNS_MAX);
    screen.row = LB_MIN(screen.row, screen.rows - 1);
    screen.column = LB_MIN(screen.column, screen.columns - 1);
}

static int signal_of(const char *name) {
    static const struct {
        const char *name;
        int sig;
    } list[] = {{"INT", SIGINT},   {"TERM", SIGTERM}, {"TSTP", SIGTSTP},
                {"CONT", SIGCONT}, {"KILL", SIGKILL}, {"HUP", SIGHUP}};
    for (size_t i = 0; i < LB_LEN(list); i++)
        if (strcmp(name, list[i].name) == 0)
            return list[i].sig;
    return 0;
}

static void type(const char *text, size_t n) {
    while (n) {
        ssize_t k = write(master, text, n);
        if (k < 0 && errno != EINTR)
            return;
        text += k > 0 ? k : 0;
        n -= k > 0 ? (size_t)k : 0;
        drain(0);
    }
}

/* Whether a line has come true; one that does something does it and has. */
static bool play(const char *verb, char *arg) {
    unsigned rows, columns;
    const size_t n = unescape(arg);
    if (strcmp(verb, "wait") == 0)
        return shows(arg);
    if (strcmp(verb, "gone") == 0)
        return !shows(arg);
    if (strcmp(verb, "raw") == 0)
        return wrote(arg, n);
    if (strcmp(verb, "stopped") == 0)
        return stands;
    if (strcmp(verb, "type") == 0)
        type(arg, n);
    else if (strcmp(verb, "size") == 0 && sscanf(arg, "%u %u", &rows, &columns) == 2)
        set_size(rows, columns);
    else if (strcmp(verb, "signal") == 0 && signal_of(arg))
        (void)kill(child, signal_of(arg));
    else if (strcmp(verb, "pause") == 0)
        drain(atoi(arg));
    else if (strcmp(verb, "hangup") == 0)
        close(master);
    else
        return false;
    return true;
}

static bool start(char **argv, unsigned rows, unsigned columns) {
    const char *name;
    master = posix_openpt(O_RDWR | O_NOCTTY);
    if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0 || !(name = ptsname(master)) ||
        (slave = open(name, O_RDWR | O_NOCTTY)) < 0)
        return false;
    vt_begin(&screen, rows, columns);
    set_size(rows, columns);
    child = fork();
    if (child == 0) {
        (void)setsid();
        (void)ioctl(slave, TIOCSCTTY, 0);
        for (int fd = 0; fd < 3; fd++)
            (void)dup2(slave, fd);
        close(master);
        if (slave > 2)
            close(slave);
        (void)execvp(argv[0], argv);
        _exit(127);
    }
    return child > 0;
}

static int fail(int line, const char *text) {
    lb_buf all = {0};
    vt_text(&screen, &all);
    printf("line %d: %s; the screen:\n%.*s\n", line, text, LB_FMT(lb_buf_str(&all)));
    lb_buf_deinit(&all);
    (void)kill(child, SIGKILL);
    return 1;
}

static bool same_modes(const struct termios *a, const struct termios *b) {
    return a->c_iflag == b->c_iflag && a->c_oflag == b->c_oflag && a->c_cflag == b->c_cflag &&
           a->c_lflag == b->c_lflag && !memcmp(a->c_cc, b->c_cc, sizeof a->c_cc);
}

int main(int argc, char **argv) {
    static char line[8192], text[8192];
    struct termios before, after;
    int number = 0;
    FILE *f = argc > 4 ? fopen(argv[3], "r") : NULL;
    if (!f)
        return 2;
    (void)signal(SIGPIPE, SIG_IGN);
    if (!start(argv + 4, (unsigned)atoi(argv[1]), (unsigned)atoi(argv[2])))
        return 77;
    (void)tcgetattr(slave, &before);
    while (fgets(line, sizeof line, f)) {
        char verb[16] = {0};
        number++;
        line[strcspn(line, "\n")] = 0;
        if (sscanf(line, "%15s", verb) != 1 || verb[0] == '#')
            continue;
        const long begin = now_ms();
        for (;;) {
            const char *arg = line + strlen(verb);
            snprintf(text, sizeof text, "%s", *arg ? arg + 1 : arg);
            if (play(verb, text))
                break;
            if (now_ms() - begin > PATIENCE_MS)
                return fail(number, line);
            if (ended) {
                drain(50);
                snprintf(text, sizeof text, "%s", *arg ? arg + 1 : arg);
                if (play(verb, text))
                    break;
                return fail(number, "the program has ended");
            }
            drain(20);
        }
    }
    for (const long begin = now_ms(); !ended; drain(20))
        if (now_ms() - begin > PATIENCE_MS)
            return fail(number, "the program does not end");
    (void)tcgetattr(slave, &after);
    printf("%s %d %s\n", WIFEXITED(status) ? "exit" : "signal",
           WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status),
           same_modes(&before, &after) && !screen.paste ? "restored" : "changed");
    fclose(f);
    lb_buf_deinit(&raw);
    return 0;
}
