/* SPDX-License-Identifier: Apache-2.0 */
/* hub_server.c: speaks the hub's API on a port of the machine's own, for tests/cli/pull.sh.
 *
 * usage: hub_server ROOT PORT_FILE LOG [FAULT[=N]]...
 *   ROOT/OWNER/NAME/...   the files of each model; those that end in .safetensors or .gguf or lie
 *                         above 100 KB are "large": redirected to another host (localhost instead
 *                         of 127.0.0.1), their ETag is the SHA-256
 *   PORT_FILE             the port is written there when the server listens
 *   LOG                   a line a request: method, path, range or -, "token" or "-"
 * Faults: bare (the list tells neither sizes nor sums), tree (only trees list files, three a page),
 * cut=N (the first transfers of a large file break off after N bytes), once=STATUS (the first
 * answer to each path), flip (a wrong byte in large files), private (401 without the token
 * "secret"), norange, slow (a pause in large files), evil (the list has a path that leads out),
 * elsewhere (a list that goes on at another host), cutall=N (every transfer of a large file breaks
 * off after N bytes), long (more bytes than the file has), odd (ETags that are no sums), wait=N
 * (the first answer to each path is 429 and asks to wait N seconds), deny (README.md is refused),
 * pause=N (slow, with N ms). One process a connection; it ends when its parent does, or on SIGTERM.
 */
#include "base/hash.h"
#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *root, *log_path;
static bool bare, tree_only, flip, private_model, norange, evil, elsewhere, too_long, odd, deny;
static long cut, once, cut_all, wait_s, pause_ms;
static int port;
#define COMMIT "0123456789abcdef0123456789abcdef01234567"

typedef struct request {
    char method[8], path[2048];
    long long from; /* -1: no range */
    bool token;
} request;

static void put(int fd, const char *fmt, ...) LB_PRINTF(2, 3);
static void put(int fd, const char *fmt, ...) {
    char text[4096];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n > 0 && write(fd, text, LB_MIN((size_t)n, sizeof text - 1)) < 0)
        exit(0);
}

/* Whether this is the first time that something is asked for; told by a file that is made. */
static bool first_time(const char *what) {
    char path[4096];
    snprintf(path, sizeof path, "%s.seen.", log_path);
    size_t n = strlen(path);
    for (const char *p = what; *p && n < sizeof path - 1; p++)
        path[n++] = *p == '/' ? '_' : *p;
    path[n] = 0;
    FILE *f = fopen(path, "wx");
    if (f)
        fclose(f);
    return f != NULL;
}

static u8 *slurp(const char *path, size_t *len) {
    FILE *f = fopen(path, "rb");
    struct stat st;
    if (!f || fstat(fileno(f), &st) != 0 || !S_ISREG(st.st_mode))
        exit(1);
    *len = (size_t)st.st_size;
    u8 *p = malloc(*len + 1);
    if (!p || fread(p, 1, *len, f) != *len)
        exit(1);
    fclose(f);
    return p;
}

static bool ends(const char *s, const char *with) {
    size_t n = strlen(s), m = strlen(with);
    return n >= m && strcmp(s + n - m, with) == 0;
}

static bool is_large(const char *path, size_t len) {
    return len > 100000 || ends(path, ".safetensors") || ends(path, ".gguf");
}

/* The sum by which the hub calls a file: SHA-256, or git's. */
static void name_of(const char *path, const u8 *bytes, size_t len, char out[65]) {
    if (is_large(path, len)) {
        lb_sha256 s;
        lb_sha256_init(&s);
        lb_sha256_update(&s, bytes, len);
        lb_sha256_hex(&s, out);
        return;
    }
    lb_sha1 s;
    char head[40];
    int n = snprintf(head, sizeof head, "blob %zu", len);
    lb_sha1_init(&s);
    lb_sha1_update(&s, head, (size_t)n + 1);
    lb_sha1_update(&s, bytes, len);
    lb_sha1_hex(&s, out);
}

typedef struct list_form {
    bool tree;
    long from, to, at; /* of a tree: the entries of this page */
} list_form;

static void put_entry(FILE *out, list_form *form, const char *path, const char *name) {
    char sum[65];
    size_t len;
    long at = form->at++;
    if (at < form->from || at >= form->to)
        return;
    u8 *bytes = slurp(path, &len);
    bool large = is_large(path, len);
    name_of(path, bytes, len, sum);
    if (odd)
        snprintf(sum, sizeof sum, "v%zu-%ld", len, at);
    free(bytes);
    fprintf(out, "%s{\"%s\":\"%s\"", at == form->from ? "" : ",", form->tree ? "path" : "rfilename",
            evil && at == form->from ? "../../../../evil" : name);
    if (form->tree)
        fprintf(out, ",\"type\":\"file\"");
    if (form->tree || !bare)
        fprintf(out, ",\"size\":%zu,\"%s\":\"%.40s\"", len, form->tree ? "oid" : "blobId", sum);
    if (large && !odd && (form->tree || !bare))
        fprintf(out, ",\"lfs\":{\"%s\":\"%s\",\"size\":%zu,\"pointerSize\":130}",
                form->tree ? "oid" : "sha256", sum, len);
    fprintf(out, "}");
}

static void list_folder(FILE *out, const char *dir, const char *prefix, list_form *form) {
    struct dirent **names;
    int n = scandir(dir, &names, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        char path[4096], name[2048];
        struct stat st;
        if (strcmp(names[i]->d_name, ".") == 0 || strcmp(names[i]->d_name, "..") == 0)
            continue;
        snprintf(path, sizeof path, "%s/%s", dir, names[i]->d_name);
        snprintf(name, sizeof name, "%s%s", prefix, names[i]->d_name);
        if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
            strcat(name, "/");
            list_folder(out, path, name, form);
        } else {
            put_entry(out, form, path, name);
        }
    }
}

static void error(int fd, int status, const char *code) {
    put(fd, "HTTP/1.1 %d X\r\nX-Error-Code: %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        status, code);
}

/* /api/models/OWNER/NAME/revision/REV, .../tree/COMMIT[?page=N] */
static void list(int fd, const char *path) {
    char id[1024], dir[4096], revision[256] = "", link[2048] = "";
    const char *rev = strstr(path, "/revision/"), *tree = strstr(path, "/tree/"), *page;
    const char *at = tree ? tree : rev;
    list_form form = {.tree = tree != NULL, .to = 1000000};
    struct stat st;
    snprintf(id, sizeof id, "%.*s", (int)(at ? at - path : 0), path);
    if (at)
        sscanf(strchr(at + 1, '/'), "/%255[^?]", revision);
    snprintf(dir, sizeof dir, "%s/%s", root, id);
    if (!at || stat(dir, &st) != 0 ||
        (strcmp(revision, "main") != 0 && strcmp(revision, "refs/pr/1") != 0 &&
         strcmp(revision, COMMIT) != 0)) {
        error(fd, 404, at && stat(dir, &st) == 0 ? "RevisionNotFound" : "RepoNotFound");
        return;
    }
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    if (tree && tree_only) {
        page = strstr(tree, "page=");
        form.from = page ? strtol(page + 5, NULL, 10) : 0;
        form.to = form.from + 3;
    }
    if (tree) {
        fprintf(f, "[");
        list_folder(f, dir, "", &form);
        fprintf(f, "]");
        if (form.at > form.to)
            snprintf(link, sizeof link,
                     "Link: <http://127.0.0.1:%d/first>; rel=\"first\", <http://127.0.0.1:%d%s"
                     "/api/models/%s/tree/" COMMIT "?page=%ld>; rel=\"next\"\r\n",
                     port, port, elsewhere ? "@localhost" : "", id, form.to);
    } else {
        fprintf(f, "{\"id\":\"%s\",\"sha\":\"" COMMIT "\"", id);
        if (!tree_only) {
            fprintf(f, ",\"siblings\":[");
            list_folder(f, dir, "", &form);
            fprintf(f, "]");
        }
        fprintf(f, "}");
    }
    fclose(f);
    put(fd,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n%s"
        "Connection: close\r\n\r\n",
        n, link);
    if (write(fd, text, n) < 0)
        exit(0);
    free(text);
}

static void send_file(int fd, const request *r, const char *path, const char *rel) {
    size_t len;
    char sum[65];
    u8 *bytes = slurp(path, &len);
    bool large = is_large(path, len), cdn = strncmp(r->path, "/cdn/", 5) == 0;
    name_of(path, bytes, len, sum);
    size_t from = r->from > 0 && !norange ? LB_MIN((size_t)r->from, len) : 0, to = len;
    if (large && !cdn) {
        put(fd,
            "HTTP/1.1 302 Found\r\nX-Repo-Commit: " COMMIT "\r\nX-Linked-Etag: \"%s\"\r\n"
            "X-Linked-Size: %zu\r\nETag: \"other\"\r\nLocation: http://localhost:%d/cdn/%s?sig=1"
            "\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            sum, len, port, rel);
        free(bytes);
        return;
    }
    if (r->from > 0 && (size_t)r->from >= len && !norange) {
        error(fd, 416, "Range");
        return;
    }
    if (from)
        put(fd, "HTTP/1.1 206 Partial\r\nContent-Range: bytes %zu-%zu/%zu\r\n", from, len - 1, len);
    else
        put(fd, "HTTP/1.1 200 OK\r\n");
    put(fd,
        "X-Repo-Commit: " COMMIT "\r\nETag: %s\"%s\"\r\nContent-Length: %zu\r\n"
        "Connection: close\r\n\r\n",
        large ? "" : "W/", sum, len - from + (cdn && too_long ? 1000 : 0));
    if (cdn && cut && strcmp(r->method, "GET") == 0 && first_time(r->path))
        to = LB_MIN(len, from + (size_t)cut);
    if (cdn && cut_all && strcmp(r->method, "GET") == 0)
        to = LB_MIN(len, from + (size_t)cut_all);
    if (cdn && flip && len)
        bytes[len / 2] ^= 1;
    for (size_t at = from; strcmp(r->method, "GET") == 0 && at < to;) {
        size_t n = LB_MIN(to - at, (size_t)65536);
        if (pause_ms && cdn)
            usleep((useconds_t)pause_ms * 1000);
        if (write(fd, bytes + at, n) != (ssize_t)n)
            exit(0);
        at += n;
    }
    if (cdn && too_long && strcmp(r->method, "GET") == 0 && write(fd, bytes, LB_MIN(len, 1000)) < 0)
        exit(0);
    free(bytes);
}

static void answer(int fd, request *r) {
    char path[4096], rel[2048] = "", id[1024];
    const char *at = strstr(r->path, "/resolve/" COMMIT "/");
    struct stat st;
    if (once && first_time(r->path)) {
        error(fd, (int)once, "Once");
        return;
    }
    if (wait_s && first_time(r->path)) {
        put(fd,
            "HTTP/1.1 429 X\r\nRetry-After: %ld\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            wait_s);
        return;
    }
    if (deny && ends(r->path, "/README.md")) {
        error(fd, 403, "Denied");
        return;
    }
    if (private_model && !r->token && strncmp(r->path, "/cdn/", 5) != 0) {
        error(fd, 401, "GatedRepo");
        return;
    }
    if (strncmp(r->path, "/api/models/", 12) == 0) {
        list(fd, r->path + 12);
        return;
    }
    if (at) {
        snprintf(id, sizeof id, "%.*s", (int)(at - r->path), r->path);
        snprintf(rel, sizeof rel, "%.900s/%.1000s", id + 1, at + strlen("/resolve/" COMMIT "/"));
    } else if (strncmp(r->path, "/cdn/", 5) == 0) {
        sscanf(r->path, "/cdn/%2000[^?]", rel);
    }
    snprintf(path, sizeof path, "%s/%s", root, rel);
    if (!rel[0] || strstr(rel, "..") || stat(path, &st) != 0)
        error(fd, 404, "EntryNotFound");
    else
        send_file(fd, r, path, rel);
}

/* %XX in place. */
static void unescape(char *s) {
    char *out = s;
    for (; *s; s++) {
        unsigned v;
        if (*s == '%' && sscanf(s + 1, "%2x", &v) == 1) {
            *out++ = (char)v;
            s += 2;
        } else {
            *out++ = *s;
        }
    }
    *out = 0;
}

static void serve(int fd) {
    char text[16384];
    size_t n = 0;
    request r = {.from = -1};
    while (n < sizeof text - 1) {
        ssize_t got = read(fd, text + n, sizeof text - 1 - n);
        if (got <= 0)
            return;
        n += (size_t)got;
        text[n] = 0;
        if (strstr(text, "\r\n\r\n"))
            break;
    }
    if (sscanf(text, "%7s %2047s", r.method, r.path) != 2)
        return;
    for (char *line = strtok(text, "\r\n"); line; line = strtok(NULL, "\r\n")) {
        (void)sscanf(line, "Range: bytes=%lld-", &r.from);
        r.token = r.token || strcmp(line, "Authorization: Bearer secret") == 0;
    }
    if (strstr(r.path, "/revision/refs/")) /* the hub takes it for "refs" */
        memcpy(strstr(r.path, "/refs/") + 1, "none", 4);
    unescape(r.path);
    FILE *log = fopen(log_path, "a");
    if (log) {
        fprintf(log, "%s %s %lld %s\n", r.method, r.path, r.from, r.token ? "token" : "-");
        fclose(log);
    }
    answer(fd, &r);
}

static void read_fault(const char *arg) {
    long n = 1;
    const char *eq = strchr(arg, '=');
    if (eq)
        n = strtol(eq + 1, NULL, 10);
    bare = bare || strcmp(arg, "bare") == 0;
    tree_only = tree_only || strcmp(arg, "tree") == 0;
    flip = flip || strcmp(arg, "flip") == 0;
    private_model = private_model || strcmp(arg, "private") == 0;
    norange = norange || strcmp(arg, "norange") == 0;
    odd = odd || strcmp(arg, "odd") == 0;
    deny = deny || strcmp(arg, "deny") == 0;
    if (strcmp(arg, "slow") == 0)
        pause_ms = 50;
    if (strncmp(arg, "pause=", 6) == 0)
        pause_ms = n;
    if (strncmp(arg, "wait=", 5) == 0)
        wait_s = n;
    evil = evil || strcmp(arg, "evil") == 0;
    elsewhere = elsewhere || strcmp(arg, "elsewhere") == 0;
    too_long = too_long || strcmp(arg, "long") == 0;
    if (strncmp(arg, "cutall=", 7) == 0)
        cut_all = n;
    if (strncmp(arg, "cut=", 4) == 0)
        cut = n;
    if (strncmp(arg, "once=", 5) == 0)
        once = n;
}

int main(int argc, char **argv) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    pid_t parent = getppid();
    int s = socket(AF_INET, SOCK_STREAM, 0);
    if (argc < 4) {
        fprintf(stderr, "usage: hub_server ROOT PORT_FILE LOG [FAULT]...\n");
        return 2;
    }
    root = argv[1];
    log_path = argv[3];
    for (int i = 4; i < argc; i++)
        read_fault(argv[i]);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_IGN);
    if (s < 0 || bind(s, (struct sockaddr *)&a, sizeof a) != 0 || listen(s, 32) != 0 ||
        getsockname(s, (struct sockaddr *)&a, &len) != 0) {
        perror("hub_server");
        return 1;
    }
    port = ntohs(a.sin_port);
    FILE *f = fopen(argv[2], "w");
    if (!f)
        return 1;
    fprintf(f, "%d\n", port);
    fclose(f);
    struct timeval tick = {.tv_sec = 1};
    setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tick, sizeof tick);
    while (getppid() == parent) {
        int c = accept(s, NULL, NULL);
        if (c < 0)
            continue;
        if (fork() == 0) {
            close(s);
            serve(c);
            shutdown(c, SHUT_WR);
            exit(0);
        }
        close(c);
    }
    return 0;
}
