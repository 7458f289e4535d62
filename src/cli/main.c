/* SPDX-License-Identifier: Apache-2.0 */
/* main.c: the only main and exit. Finds the command, parses its options, runs it, prints the result
 * to stdout and the error, one line, to stderr. */
#include "base/cpu.h"
#include "base/interrupt.h"
#include "base/mapped.h"
#include "base/os.h"
#include "base/sysinfo.h"
#include "cli/cli.h"
#include <stdio.h>
#include <stdlib.h>

static const lb_command *const commands[] = {
#define LB_COMMAND(id) &lb_cmd_##id,
#include "cli/commands.def"
#undef LB_COMMAND
};

/* Takes one word, or two for the names that have two; *used is how many. */
static const lb_command *find_command(char **argv, int argc, int *used) {
    const lb_command *found = NULL;
    for (u32 i = 0; i < LB_LEN(commands); i++) {
        const char *name = commands[i]->name;
        size_t n = strlen(argv[1]);
        if (strcmp(name, argv[1]) == 0 && !found) {
            found = commands[i];
            *used = 1;
        } else if (argc > 2 && strncmp(name, argv[1], n) == 0 && name[n] == ' ' &&
                   strcmp(name + n + 1, argv[2]) == 0) {
            *used = 2;
            return commands[i];
        }
    }
    return found;
}

static lb_status unknown_command(const char *word, lb_err *err) {
    const lb_command *best = NULL;
    u32 best_distance = UINT32_MAX, d;
    for (u32 i = 0; i < LB_LEN(commands); i++) {
        if (lb_is_near(word, commands[i]->name, &d) && d < best_distance) {
            best = commands[i];
            best_distance = d;
        }
    }
    if (word[0] == '-')
        return lb_fail(err, LB_E_USAGE,
                       "unknown option '%s': options follow a command: 'lbrx help' lists them",
                       word);
    for (u32 i = 0; i < LB_LEN(commands); i++) { /* the first word of some */
        const size_t n = strlen(word);
        if (strncmp(commands[i]->name, word, n) == 0 && commands[i]->name[n] == ' ')
            return lb_fail(err, LB_E_USAGE,
                           "%s what? 'lbrx help %s' lists what there is, such as '%s'", word, word,
                           commands[i]->name);
    }
    if (best)
        return lb_fail(err, LB_E_USAGE, "no command '%s'; did you mean '%s'?", word, best->name);
    return lb_fail(err, LB_E_USAGE, "no command '%s': 'lbrx help' lists them", word);
}

static lb_status read_environment(lb_cli *cli, lb_err *err) {
    const char *cpu = lb_os_env("LBRX_CPU"), *log = lb_os_env("LBRX_LOG");
    u32 mask;
    cli->log = log && strcmp(log, "0") != 0;
    cli->isa_mask = lb_sys_isa();
    if (cpu && !lb_isa_parse(lb_str_c(cpu), &mask))
        return lb_fail(err, LB_E_USAGE,
                       "LBRX_CPU: '%s' is not one of ref, avx2, avxvnni, avx512, avx512vnni, "
                       "avx512vbmi, neon, dotprod, i8mm",
                       cpu);
    return LB_OK;
}

static lb_status run_command(lb_cli *cli, int argc, char **argv, lb_err *err) {
    lb_parsed parsed;
    int used = 0;
    if (argc < 2)
        return lb_fail(err, LB_E_USAGE,
                       "no command given: lbrx COMMAND [ARGUMENT]...: 'lbrx help' lists them");
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
        lb_buf_put_c(&cli->out, "lbrx " LB_VERSION "\n");
        return LB_OK;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        lb_help_all(&cli->out, cli->commands, cli->n_commands);
        return LB_OK;
    }
    const lb_command *c = find_command(argv, argc, &used);
    if (!c)
        return unknown_command(argv[1], err);
    LB_TRY(lb_opt_parse(c, argv + 1 + used, argc - 1 - used, &cli->arena, &parsed, err));
    if (parsed.help) {
        lb_help_command(&cli->out, c);
        return LB_OK;
    }
    LB_TRY(read_environment(cli, err));
    lb_cli_log(cli, "lbrx " LB_VERSION ", %s, CPU families %#x of %#x", c->name, cli->isa_mask,
               lb_cpu_isa());
    return c->run(cli, parsed.opts, parsed.args, parsed.n_args, err);
}

/* A result that did not reach its reader is a failure: a full disk behind `>` must not look like
 * success. */
static lb_status print_result(lb_cli *cli, lb_err *err) {
    LB_TRY(lb_buf_status(&cli->out, err));
    if (cli->out.len && fwrite(cli->out.ptr, 1, cli->out.len, stdout) != cli->out.len)
        return lb_fail(err, LB_E_IO, "cannot write to standard output");
    if (fflush(stdout) != 0)
        return lb_fail(err, LB_E_IO, "cannot write to standard output");
    return LB_OK;
}

/* One line (messages hold no control bytes: lb_fail), in one write, so that those of programs that
 * run side by side do not mix. */
static void print_error(const lb_err *err) {
    char at[32] = "";
    if (err->off && !strstr(err->msg, "byte "))
        (void)snprintf(at, sizeof at, " (byte %llu)", (unsigned long long)err->off);
    (void)fprintf(stderr, "lbrx: %s%s\n", err->msg, at);
}

/* A process may be started with 0, 1 or 2 closed; the next file opened would take that number, and
 * a remark meant for stderr would end up in the model. Open for reading alone: a result written
 * there fails, as it should. */
static void hold_standard_fds(void) {
    int fd = -1;
    while (lb_os_open_read("/dev/null", &fd, NULL) == LB_OK && fd <= 2)
        ;
    if (fd > 2)
        lb_os_close(&fd);
}

int main(int argc, char **argv) {
    lb_cli cli = {.commands = commands, .n_commands = LB_LEN(commands), .start_us = lb_os_now_us()};
    lb_err err = {0}, print_err = {0};
    lb_mem_init();
    hold_standard_fds();
    lb_interrupt_install();
    lb_mapped_install();
    lb_status st = run_command(&cli, argc, argv, &err);
    /* A comparison that found differences has a result too. */
    if (st == LB_OK || st == LB_E_DIFFERENT) {
        lb_status printed = print_result(&cli, &print_err);
        if (printed != LB_OK) {
            st = printed;
            err = print_err;
        }
    }
    if (st != LB_OK && err.msg[0])
        print_error(&err);
    lb_buf_deinit(&cli.out);
    lb_arena_deinit(&cli.arena);
    exit(lb_status_exit(st));
}
