/* Preloaded before the C library of a PostgreSQL server: while the file FULL exists, no table can grow, as on a full disk.
   The server's WAL, which is elsewhere, can: otherwise the server would shut down. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static int lacks_room(int fd, off_t end)
{
    char link[64], path[PATH_MAX];
    struct stat file;
    ssize_t length;

    if (access(FULL, F_OK) != 0)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return strstr(path, "/base/") && fstat(fd, &file) == 0 && end > file.st_size;
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off_t at)
{
    ssize_t (*next)(int, const void *, size_t, off_t) = dlsym(RTLD_NEXT, "pwrite64");

    if (!lacks_room(fd, at + (off_t)count))
        return next(fd, bytes, count, at);
    errno = ENOSPC;
    return -1;
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) { return pwrite64(fd, bytes, count, at); }

/* How servers from 16 on write pages of zeros. */
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t at)
{
    ssize_t (*next)(int, const struct iovec *, int, off_t) = dlsym(RTLD_NEXT, "pwritev64");

    if (!lacks_room(fd, at + 1))
        return next(fd, parts, count, at);
    errno = ENOSPC;
    return -1;
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) { return pwritev64(fd, parts, count, at); }

int posix_fallocate64(int fd, off_t at, off_t length)
{
    int (*next)(int, off_t, off_t) = dlsym(RTLD_NEXT, "posix_fallocate64");

    return lacks_room(fd, at + length) ? ENOSPC : next(fd, at, length);
}

int posix_fallocate(int fd, off_t at, off_t length) { return posix_fallocate64(fd, at, length); }
