// A worker: what it returns is the result of its task, what it throws is the task's error.
exports.handler = async (task) => {
  return { stores: task.stores.length, attempt: task.attempts + 1 };
};

if (require.main === module) { // as a program: the task comes on standard input
  const task = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
  exports.handler(task).then((result) => console.log(JSON.stringify(result)));
}
