/* What local-path-provisioner runs on a node: makes the directory of a volume, or removes it with all that is in it. */
#define _GNU_SOURCE
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { OPEN_DIRECTORIES = 16 };

static int make(const char *path)
{
	/* Whoever a pod runs as; mkdir alone would apply the umask. */
	return (mkdir(path, 0777) && errno != EEXIST) || chmod(path, 0777);
}

static int remove_entry(const char *path, const struct stat *stat, int type, struct FTW *where)
{
	(void)stat, (void)type, (void)where;
	return remove(path);
}

static int take_away(const char *path)
{
	return nftw(path, remove_entry, OPEN_DIRECTORIES, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) && errno != ENOENT;
}

int main(int argc, char **argv)
{
	const char *path = NULL, *action = "";
	int option;

	while ((option = getopt(argc, argv, "p:s:m:a:")) != -1) {
		if (option == 'p')
			path = optarg;
		else if (option == 'a')
			action = optarg;
	}
	if (!path || (strcmp(action, "create") && strcmp(action, "delete"))) {
		fprintf(stderr, "usage: volume -p PATH -s BYTES -m MODE -a create|delete\n");
		return 64;
	}
	if (strcmp(action, "create") ? take_away(path) : make(path)) {
		perror(path);
		return 1;
	}
	return 0;
}
