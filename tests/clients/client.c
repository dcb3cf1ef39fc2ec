/* A client of NFS and its caches, as a FUSE file system: each mount of one source believes things of its own.
 *
 *     client source=FOLDER mount=FOLDER [log=FILE] [faults=FILE] [NAME=NUMBER ...]
 *
 * The folder `source` is the server. What a client believes, and when it asks, is what nfs(5) says:
 *   - attributes are believed for acregmin to acregmax seconds (files), acdirmin to acdirmax (folders), and for twice
 *     as long as before while they stay the same;
 *   - names, also absent ones, and listings are believed until the folder is known to have changed;
 *   - opening a file or a folder asks the server (close-to-open; not with cto=0, the mount option nocto);
 *   - what is written reaches the server when the file is closed, synced, locked or unlocked, or `delay` s later; the
 *     end of a file to append to is where the client believes that it is;
 *   - flock is the server's; a file that was removed elsewhere is stale (ESTALE), one that is open and removed here
 *     lives on as .nfsXXXX; with link=N the answer to each N-th link is lost, and the repeated request is refused.
 * The kernel keeps nothing of it: all its times are 0, so that each look comes here. The log has each answer that
 * differs from the truth: "absent", "gone", "other" or "size", the path, and the process that asked.
 * `faults` is a file of four integers: an error number, how many calls of the server go well before it, how many get
 * it, and how many calls there were. Not modelled: leases, delegations, a server that restarts.
 */
#define FUSE_USE_VERSION 312
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse3/fuse_lowlevel.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

enum { BUCKETS = 4096, COUNTERS = 65536, REFUSED = 64, MOST_UNWRITTEN = 32 << 20, PATH = 4096 };

struct piece { off_t offset; size_t size; struct piece *next; char data[]; };
struct listing { int uses, count; char **names; struct stat *stats; };

struct node { /* a file or folder of the server; kept until the client ends, its descriptor while it exists */
    int fd, write_fd;
    uint64_t known_by_kernel;
    struct stat seen; /* as the server said it last */
    uint64_t change;  /* the server's count of changes then */
    double asked_s, believed_s, same_since_s;
    bool is_known, is_gone;
    unsigned version; /* of a folder's names: a name of an older one is not believed */
    struct name *names;
    struct listing *listing;
    unsigned listing_version;
    struct piece *unwritten, **unwritten_end;
    size_t unwritten_bytes;
    off_t unwritten_to;
    double unwritten_since_s;
    int opened;
    struct node *hidden_in; /* the folder in which it lives on, removed while open */
    char hidden_as[40];
    struct node *next;
};
struct name { char *text; struct node *child; unsigned version; struct name *next; }; /* child: NULL if absent */
struct handle { int fd, lock_fd; struct listing *listing; };

static double acregmin = 3, acregmax = 60, acdirmin = 30, acdirmax = 60, delay = 30, cto = 1, link_lost = 0;
static const char *source, *mount_point;
static FILE *stale_log;
static struct { int error, before, times, calls; } *faults;
static uint64_t *changes; /* the server's counts, by inode */
static struct node root, *nodes[BUCKETS];
static struct { pid_t process; double until_s; } refused[REFUSED]; /* they ask again, as the kernel has them do */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

static char *self_path(int fd, char *path)
{
    sprintf(path, "/proc/self/fd/%d", fd);
    return path;
}

static void note(const char *what, struct node *folder, const char *name, pid_t process)
{
    char path[PATH] = "", self[40], command[64] = "";
    FILE *file;
    if (readlink(self_path(folder->fd, self), path, sizeof path - 1) < 0) return;
    sprintf(self, "/proc/%d/comm", process);
    if ((file = fopen(self, "r"))) {
        if (fscanf(file, "%63[^\n]", command) != 1) *command = 0;
        fclose(file);
    }
    const char *below = strncmp(path, source, strlen(source)) ? path : path + strlen(source);
    fprintf(stale_log, "%s %s%s%s %d %s\n", what, below, name ? "/" : "", name ? name : "", process, command);
}

/* --- the server --- */

static uint64_t *change_of(struct node *node) { return &changes[node->seen.st_ino % COUNTERS]; }

static int call_server(void)
{
    if (!faults) return 0;
    faults->calls++;
    if (faults->times <= 0 || faults->before-- > 0) return 0;
    faults->times--;
    return faults->error;
}

static struct node *node_of(int fd, const struct stat *status)
{
    struct node **place = &nodes[status->st_ino % BUCKETS], *node;
    if (status->st_ino == root.seen.st_ino && status->st_dev == root.seen.st_dev) {
        close(fd);
        return &root;
    }
    for (node = *place; node; node = node->next)
        if (node->seen.st_ino == status->st_ino && node->seen.st_dev == status->st_dev) {
            close(fd);
            return node;
        }
    node = calloc(1, sizeof *node);
    node->fd = fd;
    node->write_fd = -1;
    node->seen = *status;
    node->unwritten_end = &node->unwritten;
    node->next = *place;
    return *place = node;
}

/* --- what is believed --- */

static int ask(struct node *node)
{
    struct stat status;
    uint64_t change = __atomic_load_n(change_of(node), __ATOMIC_SEQ_CST);
    int error = call_server();
    if (error) return error;
    if (fstat(node->fd, &status)) return errno;
    if (!status.st_nlink && !node->hidden_in) {
        node->is_gone = true;
        node->is_known = false;
        return ESTALE;
    }
    bool is_folder = S_ISDIR(status.st_mode);
    double most_s = is_folder ? acdirmax : acregmax, now = now_s();
    if (!node->is_known || change != node->change || status.st_size != node->seen.st_size) {
        node->version += node->is_known;
        node->believed_s = is_folder ? acdirmin : acregmin;
        node->same_since_s = now;
    } else if (now - node->same_since_s >= node->believed_s) {
        node->believed_s = 2 * node->believed_s < most_s ? 2 * node->believed_s : most_s;
        node->same_since_s = now;
    }
    node->seen = status;
    node->change = change;
    node->asked_s = now;
    node->is_known = true;
    return 0;
}

static int believe(struct node *node)
{
    return node->is_known && now_s() - node->asked_s < node->believed_s ? 0 : ask(node);
}

/* This client has changed a folder: the server says whether others did so before (NFSv4's change_info). */
static void changed_here(struct node *folder)
{
    uint64_t before = __atomic_fetch_add(change_of(folder), 1, __ATOMIC_SEQ_CST);
    folder->version += !folder->is_known || before != folder->change;
    folder->listing_version = folder->version - 1;
    fstat(folder->fd, &folder->seen);
    folder->change = before + 1;
    folder->asked_s = now_s();
    folder->believed_s = folder->believed_s ? folder->believed_s : acdirmin;
    folder->is_known = true;
}

static void file_changed(struct node *node)
{
    __atomic_fetch_add(change_of(node), 1, __ATOMIC_SEQ_CST);
    node->is_known = false;
}

static struct name *name_in(struct node *folder, const char *text)
{
    struct name *name = folder->names;
    while (name && strcmp(name->text, text)) name = name->next;
    return name;
}

static void remember(struct node *folder, const char *text, struct node *child)
{
    struct name *name = name_in(folder, text);
    if (!name) {
        name = calloc(1, sizeof *name);
        name->text = strdup(text);
        name->next = folder->names;
        folder->names = name;
    }
    name->child = child;
    name->version = folder->version;
}

static bool must_ask(pid_t process)
{
    for (int i = 0; i < REFUSED; i++)
        if (refused[i].process == process && refused[i].until_s > now_s()) return true;
    return false;
}

static void answer(fuse_req_t request, int error) /* and let go of the lock */
{
    static unsigned next;
    if (error == ESTALE) {
        refused[next % REFUSED].process = fuse_req_ctx(request)->pid;
        refused[next++ % REFUSED].until_s = now_s() + 0.1;
    }
    pthread_mutex_unlock(&lock);
    fuse_reply_err(request, error);
}

static void note_if_untrue(struct node *folder, const struct name *name, pid_t process)
{
    struct stat status;
    if (!stale_log) return;
    bool is_there = !fstatat(folder->fd, name->text, &status, AT_SYMLINK_NOFOLLOW);
    if (!name->child && is_there) note("absent", folder, name->text, process);
    if (name->child && !is_there) note("gone", folder, name->text, process);
    if (name->child && is_there && status.st_ino != name->child->seen.st_ino)
        note("other", folder, name->text, process);
}

static int look_up(struct node *folder, const char *text, pid_t process, struct node **child)
{
    bool asks = must_ask(process);
    int error = asks ? ask(folder) : believe(folder);
    if (error) return error;
    struct name *name = name_in(folder, text);
    if (name && !asks && name->version == folder->version && !(name->child && name->child->is_gone)) {
        note_if_untrue(folder, name, process);
        *child = name->child;
        if (!*child) return ENOENT;
        return (*child)->is_known ? 0 : ask(*child);
    }
    if ((error = call_server())) return error;
    struct stat status;
    int fd = openat(folder->fd, text, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        error = errno;
        if (error == ENOENT && !fstat(folder->fd, &status) && !status.st_nlink) return ESTALE;
        if (error == ENOENT) remember(folder, text, NULL);
        return error;
    }
    fstat(fd, &status);
    *child = node_of(fd, &status);
    if ((error = ask(*child))) return error;
    remember(folder, text, *child);
    return 0;
}

static struct stat shown(struct node *node)
{
    struct stat status = node->seen;
    if (node->unwritten && node->unwritten_to > status.st_size) status.st_size = node->unwritten_to;
    return status;
}

/* --- what is written --- */

static int write_out(struct node *node)
{
    char path[40];
    int error = 0;
    if (!node->unwritten) return 0;
    error = call_server();
    if (node->write_fd < 0) node->write_fd = open(self_path(node->fd, path), O_WRONLY | O_CLOEXEC);
    for (struct piece *piece; (piece = node->unwritten); free(piece)) {
        node->unwritten = piece->next;
        if (!error && pwrite(node->write_fd, piece->data, piece->size, piece->offset) != (ssize_t)piece->size)
            error = errno ? errno : EIO;
    }
    node->unwritten_end = &node->unwritten;
    node->unwritten_bytes = node->unwritten_to = 0;
    file_changed(node);
    int error_of_ask = ask(node);
    return error ? error : error_of_ask;
}

static void *write_late(void *unused)
{
    for (;; usleep(200000)) {
        pthread_mutex_lock(&lock);
        for (int i = 0; i < BUCKETS; i++)
            for (struct node *node = nodes[i]; node; node = node->next)
                if (node->unwritten && now_s() - node->unwritten_since_s >= delay) write_out(node);
        pthread_mutex_unlock(&lock);
    }
    return unused;
}

/* --- what the kernel asks --- */

static struct node *at(fuse_ino_t id) { return id == FUSE_ROOT_ID ? &root : (struct node *)(uintptr_t)id; }
static struct handle *opened(struct fuse_file_info *info) { return (struct handle *)(uintptr_t)info->fh; }
static pid_t asking(fuse_req_t request) { return fuse_req_ctx(request)->pid; }

static struct fuse_entry_param entry_of(struct node *node)
{
    node->known_by_kernel++;
    return (struct fuse_entry_param){.ino = node == &root ? FUSE_ROOT_ID : (uintptr_t)node, .attr = shown(node)};
}

static void reply_name(fuse_req_t request, struct node *folder, const char *name, int error)
{
    struct node *child;
    if (!error) error = look_up(folder, name, asking(request), &child);
    if (error) {
        answer(request, error);
        return;
    }
    struct fuse_entry_param entry = entry_of(child);
    pthread_mutex_unlock(&lock);
    fuse_reply_entry(request, &entry);
}

static void do_lookup(fuse_req_t request, fuse_ino_t folder, const char *name)
{
    pthread_mutex_lock(&lock);
    reply_name(request, at(folder), name, 0);
}

static void forget(struct node *node, uint64_t count)
{
    struct stat status;
    node->known_by_kernel -= count;
    if (node == &root || node->known_by_kernel || node->opened || node->hidden_in) return;
    if (fstat(node->fd, &status) || status.st_nlink) return;
    struct node **place = &nodes[node->seen.st_ino % BUCKETS];
    while (*place != node) place = &(*place)->next;
    *place = node->next;
    close(node->fd);
    node->fd = -1;
    node->is_gone = true;
}

static void do_forget(fuse_req_t request, fuse_ino_t id, uint64_t count)
{
    pthread_mutex_lock(&lock);
    forget(at(id), count);
    pthread_mutex_unlock(&lock);
    fuse_reply_none(request);
}

static void do_forget_multi(fuse_req_t request, size_t count, struct fuse_forget_data *forgotten)
{
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < count; i++) forget(at(forgotten[i].ino), forgotten[i].nlookup);
    pthread_mutex_unlock(&lock);
    fuse_reply_none(request);
}

static void reply_status(fuse_req_t request, struct node *node, int error)
{
    if (error) {
        answer(request, error);
        return;
    }
    struct stat status = shown(node);
    pthread_mutex_unlock(&lock);
    fuse_reply_attr(request, &status, 0);
}

static void do_getattr(fuse_req_t request, fuse_ino_t id, struct fuse_file_info *info)
{
    struct stat truth;
    struct node *node = at(id);
    (void)info;
    pthread_mutex_lock(&lock);
    int error = believe(node);
    bool is_file = S_ISREG(node->seen.st_mode) && !node->unwritten;
    if (stale_log && !error && is_file && !fstat(node->fd, &truth) && truth.st_size != node->seen.st_size)
        note("size", node, NULL, asking(request));
    reply_status(request, node, error);
}

static void do_setattr(fuse_req_t request, fuse_ino_t id, struct stat *wanted, int which, struct fuse_file_info *info)
{
    char path[40];
    struct node *node = at(id);
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_OMIT}};
    (void)info;
    pthread_mutex_lock(&lock);
    self_path(node->fd, path);
    int error = write_out(node);
    if (!error) error = call_server();
    if (!error && which & FUSE_SET_ATTR_MODE && chmod(path, wanted->st_mode)) error = errno;
    uid_t user = which & FUSE_SET_ATTR_UID ? wanted->st_uid : (uid_t)-1;
    gid_t group = which & FUSE_SET_ATTR_GID ? wanted->st_gid : (gid_t)-1;
    if (!error && which & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID) && chown(path, user, group)) error = errno;
    if (!error && which & FUSE_SET_ATTR_SIZE && truncate(path, wanted->st_size)) error = errno;
    if (which & FUSE_SET_ATTR_ATIME) times[0] = wanted->st_atim;
    if (which & FUSE_SET_ATTR_MTIME) times[1] = wanted->st_mtim;
    if (which & FUSE_SET_ATTR_ATIME_NOW) times[0].tv_nsec = UTIME_NOW;
    if (which & FUSE_SET_ATTR_MTIME_NOW) times[1].tv_nsec = UTIME_NOW;
    if (!error && which & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME) && utimensat(AT_FDCWD, path, times, 0))
        error = errno;
    if (S_ISREG(node->seen.st_mode)) file_changed(node);
    reply_status(request, node, error ? error : ask(node));
}

static void do_readlink(fuse_req_t request, fuse_ino_t id)
{
    char target[PATH];
    ssize_t size = readlinkat(at(id)->fd, "", target, sizeof target - 1);
    if (size < 0) {
        fuse_reply_err(request, errno);
        return;
    }
    target[size] = 0;
    fuse_reply_readlink(request, target);
}

static void made(fuse_req_t request, struct node *folder, const char *name, int result)
{
    int error = result ? errno : 0;
    changed_here(folder);
    struct name *before = name_in(folder, name);
    if (before) before->version = folder->version - 1;
    reply_name(request, folder, name, error);
}

static void do_mkdir(fuse_req_t request, fuse_ino_t folder, const char *name, mode_t mode)
{
    pthread_mutex_lock(&lock);
    int error = call_server();
    if (error) answer(request, error);
    else made(request, at(folder), name, mkdirat(at(folder)->fd, name, mode));
}

static void do_mknod(fuse_req_t request, fuse_ino_t folder, const char *name, mode_t mode, dev_t device)
{
    pthread_mutex_lock(&lock);
    made(request, at(folder), name, mknodat(at(folder)->fd, name, mode, device));
}

static void do_symlink(fuse_req_t request, const char *target, fuse_ino_t folder, const char *name)
{
    pthread_mutex_lock(&lock);
    made(request, at(folder), name, symlinkat(target, at(folder)->fd, name));
}

static void do_link(fuse_req_t request, fuse_ino_t id, fuse_ino_t folder, const char *name)
{
    static unsigned links;
    char path[40];
    pthread_mutex_lock(&lock);
    int error = write_out(at(id));
    if (!error) error = call_server();
    if (error) {
        answer(request, error);
        return;
    }
    int result = linkat(AT_FDCWD, self_path(at(id)->fd, path), at(folder)->fd, name, AT_SYMLINK_FOLLOW);
    file_changed(at(id));
    if (!result && link_lost && ++links % (unsigned)link_lost == 0) {
        errno = EEXIST;
        result = -1;
    }
    made(request, at(folder), name, result);
}

/* Give a file that is about to lose its name, and is open here, another one until it is closed. */
static void hide(struct node *folder, const char *text)
{
    static unsigned hidden;
    struct stat status;
    struct name *name = name_in(folder, text);
    struct node *node = name ? name->child : NULL;
    if (!node || !node->opened || S_ISDIR(node->seen.st_mode) || node->hidden_in) return;
    if (fstatat(folder->fd, text, &status, AT_SYMLINK_NOFOLLOW) || status.st_ino != node->seen.st_ino) return;
    snprintf(node->hidden_as, sizeof node->hidden_as, ".nfs%016lx%08x", (long)status.st_ino, ++hidden);
    if (!renameat(folder->fd, text, folder->fd, node->hidden_as)) node->hidden_in = folder;
}

static void remove_name(fuse_req_t request, struct node *folder, const char *name, int flags)
{
    pthread_mutex_lock(&lock);
    int error = call_server();
    struct name *before = name_in(folder, name);
    if (!error && !flags) hide(folder, name);
    bool is_hidden = before && before->child && before->child->hidden_in == folder;
    if (!error && !is_hidden && unlinkat(folder->fd, name, flags)) error = errno;
    if (before && before->child && S_ISREG(before->child->seen.st_mode)) file_changed(before->child);
    changed_here(folder);
    if (!error || error == ENOENT) remember(folder, name, NULL);
    answer(request, error);
}

static void do_unlink(fuse_req_t request, fuse_ino_t folder, const char *name)
{
    remove_name(request, at(folder), name, 0);
}

static void do_rmdir(fuse_req_t request, fuse_ino_t folder, const char *name)
{
    remove_name(request, at(folder), name, AT_REMOVEDIR);
}

static void do_rename(
    fuse_req_t request, fuse_ino_t from, const char *name, fuse_ino_t to, const char *new_name, unsigned flags)
{
    pthread_mutex_lock(&lock);
    struct name *believed = name_in(at(from), name);
    struct node *moved = believed ? believed->child : NULL;
    int error = flags ? EINVAL : call_server();
    if (!error && moved) error = write_out(moved);
    if (!error) {
        hide(at(to), new_name);
        if (renameat(at(from)->fd, name, at(to)->fd, new_name)) error = errno;
        changed_here(at(from));
        if (to != from) changed_here(at(to));
    }
    if (!error) {
        remember(at(from), name, NULL);
        remember(at(to), new_name, moved);
        if (!moved) name_in(at(to), new_name)->version--; /* which file it is will be asked */
        else if (S_ISREG(moved->seen.st_mode)) file_changed(moved);
    }
    answer(request, error);
}

static struct handle *new_handle(struct node *node, int fd)
{
    struct handle *handle = calloc(1, sizeof *handle);
    handle->fd = fd;
    handle->lock_fd = -1;
    node->opened++;
    return handle;
}

static void do_open(fuse_req_t request, fuse_ino_t id, struct fuse_file_info *info)
{
    char path[40];
    struct node *node = at(id);
    pthread_mutex_lock(&lock);
    int error = cto || !node->is_known ? ask(node) : 0;
    int fd = error ? -1 : open(self_path(node->fd, path), (info->flags & O_ACCMODE) | O_CLOEXEC);
    if (fd < 0) {
        answer(request, error ? error : errno);
        return;
    }
    info->fh = (uintptr_t)new_handle(node, fd);
    pthread_mutex_unlock(&lock);
    fuse_reply_open(request, info);
}

static void do_create(
    fuse_req_t request, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *info)
{
    struct node *folder = at(parent), *child;
    pthread_mutex_lock(&lock);
    int flags = (info->flags & (O_ACCMODE | O_EXCL | O_TRUNC)) | O_CREAT | O_NOFOLLOW | O_CLOEXEC;
    int error = call_server(), fd = error ? -1 : openat(folder->fd, name, flags, mode);
    if (!error && fd < 0) error = errno == ENOENT ? ESTALE : errno;
    changed_here(folder);
    struct name *before = name_in(folder, name);
    if (before) before->version = folder->version - 1;
    if (!error) error = look_up(folder, name, asking(request), &child);
    if (error) {
        if (fd >= 0) close(fd);
        answer(request, error);
        return;
    }
    info->fh = (uintptr_t)new_handle(child, fd);
    struct fuse_entry_param entry = entry_of(child);
    pthread_mutex_unlock(&lock);
    fuse_reply_create(request, &entry, info);
}

static void do_read(fuse_req_t request, fuse_ino_t id, size_t size, off_t offset, struct fuse_file_info *info)
{
    struct stat status;
    struct node *node = at(id);
    char *data = malloc(size);
    pthread_mutex_lock(&lock);
    int error = write_out(node);
    if (!error) error = call_server();
    if (!error && !node->hidden_in && !fstat(node->fd, &status) && !status.st_nlink) {
        node->is_gone = true;
        error = ESTALE;
    }
    pthread_mutex_unlock(&lock);
    ssize_t count = error ? 0 : pread(opened(info)->fd, data, size, offset);
    if (!error && count < 0) error = errno;
    if (error) fuse_reply_err(request, error);
    else fuse_reply_buf(request, data, count);
    free(data);
}

static void do_write(
    fuse_req_t request, fuse_ino_t id, const char *data, size_t size, off_t offset, struct fuse_file_info *info)
{
    struct node *node = at(id);
    struct piece *piece = malloc(sizeof *piece + size);
    (void)info;
    *piece = (struct piece){.offset = offset, .size = size};
    memcpy(piece->data, data, size);
    pthread_mutex_lock(&lock);
    if (!node->unwritten) node->unwritten_since_s = now_s();
    *node->unwritten_end = piece;
    node->unwritten_end = &piece->next;
    node->unwritten_bytes += size;
    if (offset + (off_t)size > node->unwritten_to) node->unwritten_to = offset + size;
    int error = node->unwritten_bytes > MOST_UNWRITTEN ? write_out(node) : 0;
    pthread_mutex_unlock(&lock);
    if (error) fuse_reply_err(request, error);
    else fuse_reply_write(request, size);
}

static void do_flush(fuse_req_t request, fuse_ino_t id, struct fuse_file_info *info)
{
    (void)info;
    pthread_mutex_lock(&lock);
    answer(request, write_out(at(id)));
}

static void do_fsync(fuse_req_t request, fuse_ino_t id, int only_data, struct fuse_file_info *info)
{
    (void)only_data;
    do_flush(request, id, info);
}

static void do_fsyncdir(fuse_req_t request, fuse_ino_t id, int only_data, struct fuse_file_info *info)
{
    (void)id, (void)only_data, (void)info; /* names are at the server already */
    fuse_reply_err(request, 0);
}

static void do_release(fuse_req_t request, fuse_ino_t id, struct fuse_file_info *info)
{
    struct node *node = at(id), *folder = node->hidden_in;
    struct handle *handle = opened(info);
    pthread_mutex_lock(&lock);
    write_out(node);
    close(handle->fd);
    if (handle->lock_fd >= 0) close(handle->lock_fd); /* which unlocks it */
    free(handle);
    if (!--node->opened && node->write_fd >= 0) {
        close(node->write_fd);
        node->write_fd = -1;
    }
    if (!node->opened && folder) {
        unlinkat(folder->fd, node->hidden_as, 0);
        changed_here(folder);
        node->hidden_in = NULL;
        node->is_gone = true;
    }
    answer(request, 0);
}

static void let_go(struct listing *listing)
{
    if (!listing || --listing->uses) return;
    for (int i = 0; i < listing->count; i++) free(listing->names[i]);
    free(listing->names);
    free(listing->stats);
    free(listing);
}

static int list(struct node *folder)
{
    if (folder->listing && folder->listing_version == folder->version) return 0;
    int error = call_server();
    if (error) return error;
    int fd = openat(folder->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = fd < 0 ? NULL : fdopendir(fd);
    if (!stream) return errno;
    let_go(folder->listing);
    struct listing *listing = folder->listing = calloc(1, sizeof *listing);
    listing->uses = 1;
    folder->listing_version = folder->version;
    for (struct dirent *entry; (entry = readdir(stream)); listing->count++) {
        listing->names = realloc(listing->names, (listing->count + 1) * sizeof *listing->names);
        listing->stats = realloc(listing->stats, (listing->count + 1) * sizeof *listing->stats);
        listing->names[listing->count] = strdup(entry->d_name);
        listing->stats[listing->count] = (struct stat){.st_ino = entry->d_ino, .st_mode = DTTOIF(entry->d_type)};
    }
    closedir(stream);
    return 0;
}

static void do_opendir(fuse_req_t request, fuse_ino_t id, struct fuse_file_info *info)
{
    struct node *folder = at(id);
    pthread_mutex_lock(&lock);
    int error = cto ? ask(folder) : believe(folder);
    if (error) {
        answer(request, error);
        return;
    }
    info->fh = (uintptr_t)calloc(1, sizeof(struct handle));
    pthread_mutex_unlock(&lock);
    fuse_reply_open(request, info);
}

static void do_readdir(fuse_req_t request, fuse_ino_t id, size_t size, off_t offset, struct fuse_file_info *info)
{
    struct handle *handle = opened(info);
    pthread_mutex_lock(&lock);
    if (!offset || !handle->listing) {
        int error = list(at(id));
        if (error) {
            answer(request, error);
            return;
        }
        let_go(handle->listing);
        handle->listing = at(id)->listing;
        handle->listing->uses++;
    }
    pthread_mutex_unlock(&lock);
    char *data = malloc(size);
    size_t used = 0;
    for (int i = offset; i < handle->listing->count; i++) {
        const char *name = handle->listing->names[i];
        size_t needed = fuse_add_direntry(request, data + used, size - used, name, &handle->listing->stats[i], i + 1);
        if (needed > size - used) break;
        used += needed;
    }
    fuse_reply_buf(request, data, used);
    free(data);
}

static void do_releasedir(fuse_req_t request, fuse_ino_t id, struct fuse_file_info *info)
{
    (void)id;
    pthread_mutex_lock(&lock);
    let_go(opened(info)->listing);
    free(opened(info));
    answer(request, 0);
}

static void do_statfs(fuse_req_t request, fuse_ino_t id)
{
    struct statvfs status;
    (void)id;
    if (fstatvfs(root.fd, &status)) fuse_reply_err(request, errno);
    else fuse_reply_statfs(request, &status);
}

static void do_flock(fuse_req_t request, fuse_ino_t id, struct fuse_file_info *info, int operation)
{
    char path[40];
    struct handle *handle = opened(info);
    pthread_mutex_lock(&lock);
    int error = write_out(at(id));
    if (!error) error = call_server();
    if (handle->lock_fd < 0) handle->lock_fd = open(self_path(at(id)->fd, path), O_RDONLY | O_CLOEXEC);
    pthread_mutex_unlock(&lock);
    while (!error && flock(handle->lock_fd, operation | LOCK_NB)) {
        error = errno;
        bool waits = error == EWOULDBLOCK && !(operation & LOCK_NB);
        if (waits && fuse_req_interrupted(request)) error = EINTR;
        else if (waits) {
            error = 0;
            usleep(20000);
        }
    }
    pthread_mutex_lock(&lock);
    answer(request, error ? error : ask(at(id)));
}

static void do_init(void *unused, struct fuse_conn_info *connection)
{
    (void)unused;
    connection->want |= FUSE_CAP_FLOCK_LOCKS;
    connection->want &= ~(FUSE_CAP_READDIRPLUS | FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_WRITEBACK_CACHE);
}

static const struct fuse_lowlevel_ops operations = {
    .init = do_init, .lookup = do_lookup, .forget = do_forget, .forget_multi = do_forget_multi, .getattr = do_getattr, .setattr = do_setattr, .readlink = do_readlink,
    .mkdir = do_mkdir, .mknod = do_mknod, .symlink = do_symlink, .link = do_link, .unlink = do_unlink,
    .rmdir = do_rmdir, .rename = do_rename, .open = do_open, .create = do_create, .read = do_read, .write = do_write,
    .flush = do_flush, .fsync = do_fsync, .fsyncdir = do_fsyncdir, .release = do_release, .opendir = do_opendir,
    .readdir = do_readdir, .releasedir = do_releasedir, .statfs = do_statfs, .flock = do_flock,
};

/* --- the start --- */

static void *shared(const char *path, size_t size)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, size)) {
        perror(path);
        exit(2);
    }
    return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
}

static bool take(const char *option, const char *value)
{
    const struct { const char *name; double *number; } numbers[] = {
        {"acregmin", &acregmin}, {"acregmax", &acregmax}, {"acdirmin", &acdirmin}, {"acdirmax", &acdirmax},
        {"delay", &delay}, {"cto", &cto}, {"link", &link_lost},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!strcmp(option, numbers[i].name)) {
            *numbers[i].number = atof(value);
            return true;
        }
    if (!strcmp(option, "source")) source = realpath(value, NULL);
    else if (!strcmp(option, "mount")) mount_point = value;
    else if (!strcmp(option, "faults")) faults = shared(value, sizeof *faults);
    else if (!strcmp(option, "log") && (stale_log = fopen(value, "a"))) setlinebuf(stale_log);
    else return false;
    return true;
}

int main(int count, char **words)
{
    for (int i = 1; i < count; i++) {
        char *value = strchr(words[i], '=');
        if (value) *value++ = 0;
        if (!value || !take(words[i], value)) {
            fprintf(stderr, "%s: unknown, or without a value; see the start of client.c\n", words[i]);
            return 2;
        }
    }
    if (!source || !mount_point) {
        fprintf(stderr, "type: client source=FOLDER mount=FOLDER\n");
        return 2;
    }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    umask(0);
    char path[PATH];
    snprintf(path, sizeof path, "%s.changes", source);
    changes = shared(path, COUNTERS * sizeof *changes);
    root.fd = open(source, O_PATH | O_CLOEXEC);
    root.write_fd = -1;
    root.unwritten_end = &root.unwritten;
    fstat(root.fd, &root.seen);
    char *mount_words[] = {"client", "-o", "fsname=client,subtype=nfs_model,default_permissions,allow_other,suid,dev"};
    struct fuse_args arguments = FUSE_ARGS_INIT(3, mount_words);
    struct fuse_session *session = fuse_session_new(&arguments, &operations, sizeof operations, NULL);
    if (!session || fuse_set_signal_handlers(session) || fuse_session_mount(session, mount_point)) return 1;
    pthread_t writer;
    pthread_create(&writer, NULL, write_late, NULL);
    struct fuse_loop_config *loop = fuse_loop_cfg_create();
    fuse_loop_cfg_set_max_threads(loop, 16);
    int result = fuse_session_loop_mt(session, loop);
    fuse_session_unmount(session);
    return result != 0;
}
