//! In the place of the room of tasks: headers that are links and nothing else.

#[path = "../../../xiio/src/task/links.rs"]
mod links;
#[path = "../../../xiio/src/task/schedule.rs"]
mod schedule;

mod refs {
    use std::cell::Cell;
    use std::ptr;

    use super::links::Links;

    /// What the links of a task sit in.
    #[derive(Default)]
    pub(super) struct Header {
        pub(super) links: Links,
        pub(super) next_queued: Cell<Option<TaskRef>>,
    }

    #[derive(Clone, Copy)]
    pub(super) struct TaskRef(pub(super) &'static Header);

    impl TaskRef {
        pub(super) fn header(self) -> &'static Header {
            self.0
        }
    }

    impl PartialEq for TaskRef {
        fn eq(&self, other: &Self) -> bool {
            ptr::eq(self.0, other.0)
        }
    }

    impl Eq for TaskRef {}
}

use std::collections::VecDeque;
use std::mem::ManuallyDrop;

use links::{List, Queue};
use refs::{Header, TaskRef};

const N_TASKS: usize = 32;

thread_local! {
    /// Empty of links before and after each run.
    // Kept to the very end, or the search for leaks would find the headers.
    static TASKS: ManuallyDrop<Vec<TaskRef>> =
        ManuallyDrop::new((0..N_TASKS).map(|_| TaskRef(Box::leak(Box::<Header>::default()))).collect());
}

/// Does to the real ones what it does to the models.
pub(crate) fn compare(data: &[u8]) {
    TASKS.with(|tasks| {
        schedule::set_seed(data.first().copied().map(u64::from));
        let (queue, list) = (Queue::default(), List::default());
        let (mut queued, mut listed) = (VecDeque::new(), VecDeque::new());
        for &step in data.iter().take(1000) {
            let task = usize::from(step) % N_TASKS;
            match step / 32 {
                0 | 1 if !queued.contains(&task) => {
                    queue.push(tasks[task]);
                    queued.push_back(task);
                }
                2 => assert_eq!(number(tasks, queue.pop()), queued.pop_front()),
                3 => bring_one_forward(tasks, &queue, &mut queued),
                4 | 5 if !listed.contains(&task) => {
                    list.push_back(tasks[task]);
                    listed.push_back(task);
                }
                6 => {
                    if let Some(place) = listed.iter().position(|&member| member == task) {
                        list.remove(tasks[task]);
                        listed.remove(place);
                    }
                }
                7 => assert_eq!(number(tasks, list.pop_front()), listed.pop_front()),
                _ => {}
            }
            assert_eq!(number(tasks, queue.first()), queued.front().copied());
            assert_eq!(number(tasks, queue.last()), queued.back().copied());
            assert_eq!(number(tasks, list.first()), listed.front().copied());
            assert!(list.iter().map(|task| number(tasks, Some(task))).eq(listed.iter().map(|&task| Some(task))));
        }
        while queue.pop().is_some() {}
        while list.pop_front().is_some() {}
    });
}

fn number(tasks: &[TaskRef], task: Option<TaskRef>) -> Option<usize> {
    task.map(|task| tasks.iter().position(|&known| known == task).expect("a task that was given"))
}

/// Brings any of the tasks to the front; the others keep their order in the round.
fn bring_one_forward(tasks: &[TaskRef], queue: &Queue, queued: &mut VecDeque<usize>) {
    queue.bring_one_forward();
    let front = number(tasks, queue.first());
    assert_eq!(front.is_some(), !queued.is_empty());
    if let Some(place) = front.and_then(|front| queued.iter().position(|&task| task == front)) {
        queued.rotate_left(place);
    }
}
