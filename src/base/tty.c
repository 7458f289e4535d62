/* SPDX-License-Identifier: Apache-2.0 */
/* tty.c: see tty.h. What handlers of signals need is static: they can reach nothing else
 * (tools/state_allowed.txt). They call what POSIX allows them to: tcsetattr, write, sigaction,
 * raise. */
#include "base/tty.h"
#include "base/interrupt.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#define PASTE_ON "\x1b[?2004h"
#define PASTE_OFF "\x1b[?2004l"

/* In the order of `handlers`. */
static const int caught[] = {SIGINT, SIGTERM, SIGHUP,  SIGQUIT, SIGSEGV, SIGBUS,
                             SIGFPE, SIGILL,  SIGABRT, SIGTSTP, SIGWINCH};
#define N_CAUGHT LB_LEN(caught)

static struct {
    struct termios found, edit, busy;
    struct sigaction before[N_CAUGHT];
    int in, out;
    int wake[2]; /* a pipe: a signal may come to any thread, and the one that reads shall notice */
    volatile sig_atomic_t open, mode, changed, ended;
} tty;

static void put(const char *s) {
    size_t n = strlen(s);
    while (n) {
        ssize_t k = write(tty.out, s, n);
        if (k < 0 && errno != EINTR)
            return;
        s += k > 0 ? k : 0;
        n -= k > 0 ? (size_t)k : 0;
    }
}

static void apply(int mode) {
    const struct termios *t = mode == LB_TTY_EDIT   ? &tty.edit
                              : mode == LB_TTY_BUSY ? &tty.busy
                                                    : &tty.found;
    while (tcsetattr(tty.in, TCSADRAIN, t) != 0 && errno == EINTR)
        ;
}

static void act(int sig, void (*handler)(int), int flags) {
    struct sigaction sa;
    memset(&sa, 0, sizeof sa);
    sa.sa_handler = handler;
    sa.sa_flags = flags;
    (void)sigemptyset(&sa.sa_mask);
    (void)sigaction(sig, &sa, NULL);
}

static void leave_mode(void) {
    if (tty.mode == LB_TTY_EDIT)
        put(PASTE_OFF);
    apply(LB_TTY_AS_FOUND);
}

static void enter_mode(void) {
    apply(tty.mode);
    if (tty.mode == LB_TTY_EDIT)
        put(PASTE_ON);
}

/* Full is fine: then it is awake already. */
static void wake(void) {
    const int error = errno;
    ssize_t n = write(tty.wake[1], "", 1);
    (void)n;
    errno = error;
}

void lb_tty_restore(void) {
    if (tty.open)
        leave_mode();
}

/* The signal's own effect, with the terminal as it was found. */
static void on_end(int sig) {
    const int error = errno;
    if (sig == SIGTERM && !tty.ended) {
        tty.ended = 1;
        lb_interrupt_set();
        wake();
        errno = error;
        return;
    }
    leave_mode();
    for (size_t i = 0; i < N_CAUGHT; i++)
        if (caught[i] == sig)
            (void)sigaction(sig, &tty.before[i], NULL);
    if (sig == SIGTERM)
        act(sig, SIG_DFL, 0);
    (void)raise(sig);
    errno = error;
}

static void on_interrupt(int sig) {
    (void)sig;
    lb_interrupt_set();
    wake();
}

static void on_resize(int sig) {
    (void)sig;
    tty.changed = 1;
    wake();
}

static void on_stop(int sig) {
    const int error = errno;
    sigset_t mask, before;
    leave_mode();
    act(sig, SIG_DFL, 0);
    (void)raise(sig);
    /* It waits until it is let through; then the process stands still here. */
    (void)sigemptyset(&mask);
    (void)sigaddset(&mask, sig);
    (void)sigprocmask(SIG_UNBLOCK, &mask, &before);
    (void)sigprocmask(SIG_SETMASK, &before, NULL);
    act(sig, on_stop, 0);
    enter_mode();
    tty.changed = 1;
    wake();
    errno = error;
}

static void catch_signals(void) {
    for (size_t i = 0; i < N_CAUGHT; i++) {
        const int sig = caught[i];
        (void)sigaction(sig, NULL, &tty.before[i]);
        if (sig == SIGINT)
            act(sig, on_interrupt, 0);
        else if (sig == SIGWINCH)
            act(sig, on_resize, 0);
        else if (sig == SIGTSTP) {
            if (tty.before[i].sa_handler != SIG_IGN) /* a shell without jobs */
                act(sig, on_stop, 0);
        } else if (sig == SIGTERM || tty.before[i].sa_handler == SIG_DFL) {
            act(sig, on_end, 0); /* a handler that is there already knows better */
        }
    }
}

static void release_signals(void) {
    for (size_t i = 0; i < N_CAUGHT; i++)
        (void)sigaction(caught[i], &tty.before[i], NULL);
}

lb_status lb_tty_open(int in, int out, lb_err *err) {
    LB_ASSERT(!tty.open);
    if (!isatty(in) || !isatty(out) || tcgetattr(in, &tty.found) != 0)
        return lb_fail(err, LB_E_IO, "not a terminal");
    if (pipe(tty.wake) != 0)
        return lb_fail(err, LB_E_IO, "a pipe cannot be made: %s", strerror(errno));
    for (int i = 0; i < 2; i++) {
        (void)fcntl(tty.wake[i], F_SETFL, O_NONBLOCK);
        (void)fcntl(tty.wake[i], F_SETFD, FD_CLOEXEC);
    }
    tty.in = in;
    tty.out = out;
    tty.edit = tty.found;
    tty.edit.c_iflag &= ~(tcflag_t)(BRKINT | ICRNL | INLCR | IGNCR | INPCK | ISTRIP | IXON);
    tty.edit.c_cflag |= CS8;
    tty.edit.c_lflag &= ~(tcflag_t)(ECHO | ICANON | IEXTEN | ISIG);
    tty.edit.c_cc[VMIN] = 1;
    tty.edit.c_cc[VTIME] = 0;
    tty.busy = tty.edit;
    tty.busy.c_lflag |= ISIG;
    tty.mode = LB_TTY_AS_FOUND;
    tty.changed = tty.ended = 0;
    tty.open = 1;
    catch_signals();
    return LB_OK;
}

void lb_tty_close(void) {
    if (!tty.open)
        return;
    lb_tty_set(LB_TTY_AS_FOUND);
    release_signals();
    tty.open = 0;
    close(tty.wake[0]);
    close(tty.wake[1]);
}

void lb_tty_set(lb_tty_mode mode) {
    if (!tty.open || tty.mode == (sig_atomic_t)mode)
        return;
    if (tty.mode == LB_TTY_EDIT)
        put(PASTE_OFF);
    tty.mode = (sig_atomic_t)mode;
    enter_mode();
}

void lb_tty_size(u32 *rows, u32 *columns) {
    struct winsize w;
    *rows = 24;
    *columns = 80;
    if (ioctl(tty.out, TIOCGWINSZ, &w) == 0 && w.ws_col && w.ws_row) {
        *rows = w.ws_row;
        *columns = w.ws_col;
    }
}

bool lb_tty_ended(void) {
    return tty.ended != 0;
}

lb_tty_event lb_tty_read(void *buf, size_t cap, size_t *n) {
    char bytes[64];
    *n = 0;
    for (;;) {
        struct pollfd p[] = {{.fd = tty.in, .events = POLLIN},
                             {.fd = tty.wake[0], .events = POLLIN}};
        while (read(tty.wake[0], bytes, sizeof bytes) > 0)
            ;
        if (lb_interrupted())
            return LB_TTY_INTERRUPTED;
        if (tty.changed) {
            tty.changed = 0;
            return LB_TTY_CHANGED;
        }
        if (poll(p, LB_LEN(p), -1) < 0) {
            if (errno == EINTR)
                continue;
            return LB_TTY_GONE;
        }
        if (!p[0].revents)
            continue;
        ssize_t got = read(tty.in, buf, cap);
        if (got < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        *n = got > 0 ? (size_t)got : 0;
        return got > 0 ? LB_TTY_KEYS : LB_TTY_GONE;
    }
}

void lb_tty_stop(void) {
    (void)raise(SIGTSTP);
}
