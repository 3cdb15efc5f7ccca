"""A stack of items: the last one put on is the first one taken off."""


class Stack:
    """A stack kept in a list; the top is at the end."""

    def __init__(self):
        self.items = []

    def push(self, item):
        self.items.append(item)

    def pop(self):
        if self.is_empty():
            raise IndexError("pop from an empty stack")
        return self.items.pop()

    def peek(self):
        if self.is_empty():
            raise IndexError("peek into an empty stack")
        return self.items[-1]

    def is_empty(self):
        return len(self.items) == 0

    def size(self):
        return len(self.items)


def reverse(text):
    """Turn a text around by pushing and popping its letters."""
    stack = Stack()
    for letter in text:
        stack.push(letter)
    result = ""
    while not stack.is_empty():
        result += stack.pop()
    return result


if __name__ == "__main__":
    print(reverse("stack"))
