"""How the page is handled besides the tour: token, dropped files, channels, tools, undo, keyboard alone, and opened again."""

import field
from page import CONTROL, DOWN, END, ENTER, ESCAPE, LEFT, PAGE_UP, SHIFT, TAB, VIEW, Page, Server

TOKEN = "Schl\u00fcssel 1"
SIDE = 120
OPEN = "return document.getElementById(arguments[0]).open"
IMAGES = "return document.querySelectorAll('#images li').length === arguments[0]"
CELLS = "return document.getElementById('stage').dataset.cells == arguments[0]"

# What can be operated and is shown; a row of the table that arrows lead to is reached with the others.
OPERABLE = """
const within = arguments[0] ? document.querySelector(arguments[0]) : document;
return [...within.querySelectorAll('button, input, select, a[href], [tabindex]')].filter((one) => {
  const box = one.getBoundingClientRect();
  return !one.disabled && one.tabIndex >= 0 && box.width && box.height && (arguments[0] || !one.closest('dialog'));
}).map((one, index) => { one.dataset.walk = index; return index; });
"""
# Where the focus is, and whether it is seen.
FOCUS = """
const one = document.activeElement;
const style = getComputedStyle(one);
const seen = one.matches(':focus-visible') && style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 1;
return [one.dataset.walk ?? null, seen, one.outerHTML.slice(0, 120)];
"""


def channels(count, squares, low=200):
    """Planes of a dark field; a square is `(channel, x, y, value)`, 30 pixels wide."""
    planes = [[[low + (3 * x + 5 * y) % 7 for x in range(SIDE)] for y in range(SIDE)] for _ in range(count)]
    for channel, left, top, value in squares:
        for y in range(top, top + 30):
            planes[channel][y][left:left + 30] = [value] * 30
    return planes


class Handling:
    """Everything that is tried, in order: what is drawn in one part is there in the next one."""

    def __init__(self, program, browser, out):
        self.program, self.browser, self.out = program, browser, out
        self.page = Page(browser)
        self.files = out / "files"
        (self.files / "folder").mkdir(parents=True, exist_ok=True)
        # One square in the first channel, one in the second, and one half as bright in the first.
        squares = [(0, 10, 10, 4000), (1, 80, 10, 3000), (0, 10, 80, 2000)]
        field.write_tiff(self.files / "two.tif", channels(2, squares))
        field.write_tiff(self.files / "again.tif", channels(2, squares[:1]))
        field.write_tiff(self.files / "folder/inside.tif", channels(2, squares[1:]))
        field.write_tiff(self.files / "one.tif", channels(1, squares[:1]))
        (self.files / "notes.tif").write_text("no image at all\n")
        (self.files / "folder/readme.md").write_text("not to be added\n")

    def run(self):
        self.server = Server(self.program, self.out / "handling", "--token", TOKEN)
        try:
            self.token()
            self.drop()
            self.channels()
            self.draw()
            self.undo()
            self.again()
            self.table()
            self.keys()
            self.focus()
            self.take_out()
        finally:
            self.server.kill()

    def open(self):
        self.browser.open("about:blank")
        self.browser.open(f"{self.server.address}/app/")

    def answer(self, token):
        self.browser.wait(OPEN, 20, "d-token", what="the page asks for the token")
        self.browser.type("#token", token)
        self.browser.click("#token-form button")

    def stays(self, dialog):
        """A dialog that needs an answer stays, however often Esc is pressed."""
        for _ in range(3):
            self.browser.key(ESCAPE)
        self.browser.script("return new Promise((done) => setTimeout(done, 150))")
        assert self.browser.script(OPEN, dialog), f"Esc closes {dialog}"

    def token(self):
        browser = self.browser
        self.open()
        browser.wait(OPEN, 20, "d-token", what="the page asks for the token")
        self.stays("d-token")
        self.answer("wrong")
        browser.wait("return document.getElementById('token-told').textContent.includes('not the token')", 10, what="it is told")
        self.shot("token")
        self.answer(TOKEN)
        browser.wait(OPEN, 20, "d-project", what="projects are offered")
        assert not browser.script(OPEN, "d-token")
        self.stays("d-project")
        print("token: asked for, a wrong one is told, the right one is taken")

    def drop(self):
        browser = self.browser
        # Text that is dragged is no file.
        shown = browser.script(
            "const data = new DataTransfer(); data.setData('text/plain', 'cell');"
            "document.body.dispatchEvent(new DragEvent('dragover', { dataTransfer: data, bubbles: true, cancelable: true }));"
            "return !document.getElementById('drop').hidden")
        assert not shown, "text that is dragged is taken for a file"
        # Before there is a project, files wait for it, and the page says so in front of the dialog.
        browser.drop((500, 300), [self.files / "two.tif"])
        browser.wait("return document.querySelector('#d-project #messages span')?.textContent.includes('1 image will be added')", 10)
        self.shot("early")
        browser.clear("#project-name")
        browser.type("#project-name", "Two channels")
        browser.click("#new-project button")
        browser.wait(IMAGES, 20, 1, what="the image that was dropped early is added")
        dropped = [self.files / name for name in ("notes.tif", "again.tif", "one.tif")]
        if browser.label == "Chromium":
            dropped.append(self.files / "folder")  # that a script cannot make events of
        browser.drop((500, 300), dropped)
        count = len(dropped) - 1
        browser.wait(IMAGES, 20, count, what="the files that are images of two channels are added")
        browser.wait("return !document.getElementById('next-step').textContent.startsWith('Adding')", 20)
        told = " ".join(self.page.messages())
        assert "notes.tif was not added" in told and "one.tif was not added" in told and "channel" in told, told
        assert "readme" not in told, told
        self.shot("refused")
        browser.script("for (const one of document.querySelectorAll('#messages button')) one.click()")
        browser.click("#images li button")
        browser.wait("return document.querySelector('#images [aria-current] b')?.textContent === 'two.tif'", 10)
        assert browser.script("return document.getElementById('drop').hidden")
        print(f"dropped: {count} images, and what is none is told")

    def shows(self, colours, what):
        """Waits until points of the image have colours, within a few steps."""
        near = lambda one, other: all(abs(a - b) < 12 for a, b in zip(one, other))
        for _ in range(100):
            seen = {at: self.page.colour(*at) for at in colours}
            if all(near(seen[at], wanted) for at, wanted in colours.items()):
                return seen
            self.browser.script("return new Promise((done) => setTimeout(done, 50))")
        raise AssertionError(f"{what}: {seen}, not {colours}")

    def focus_on(self, selector):
        self.browser.script("document.querySelector(arguments[0]).focus()", selector)

    def channels(self):
        browser = self.browser
        first, second, half = (20, 20), (90, 20), (20, 90)
        black = (0, 0, 0)
        self.shows({first: (0, 255, 0), second: (255, 0, 255)}, "green and magenta")
        browser.click("[aria-label='Show Channel 2']")
        self.shows({first: (0, 255, 0), second: black}, "the second one is hidden")
        browser.click("[aria-label='Show Channel 2']")
        browser.click("[aria-label='Colour of Channel 1'] option[value=yellow]")
        self.shows({first: (255, 255, 0), second: (255, 0, 255)}, "the first one is yellow")
        # The slider by its keys: the brightest value is white, then that of the half bright square.
        white = "[aria-label='White at of Channel 1']"
        self.focus_on(white)
        browser.key(END)
        before = self.shows({second: (255, 0, 255)}, "as before")
        dim = self.page.colour(*half)
        assert 90 < dim[0] < 160, dim
        steps = browser.script("return document.querySelector(arguments[0]).value", white)
        browser.key(LEFT)
        less = browser.script("return document.querySelector(arguments[0]).value", white)
        assert float(less) < float(steps), (less, steps)
        # A page down in a slider is the slider's, and does not turn to another image.
        browser.key(PAGE_UP)
        assert browser.script("return document.querySelector('#images [aria-current] b').textContent") == "two.tif"
        browser.script("const one = document.querySelector(arguments[0]); one.value = 2000; one.dispatchEvent(new Event('input'))", white)
        self.shows({half: (255, 255, 0), first: (255, 255, 0)}, "all of the first channel is white")
        assert "2000" in browser.script("return document.querySelector('.channel .told').textContent")
        self.shot("channels")
        self.page.reload()
        browser.wait("return document.querySelectorAll('.channel').length === 2", 20, what="the page is there again")
        self.shows({half: (255, 255, 0), second: (255, 0, 255)}, "channels are shown as before")
        browser.click(".channel .auto")
        self.shows({first: (0, 255, 0)}, "chosen anew from the intensities")
        assert before
        # Whole in the window, the image stays whole in a smaller one.
        self.browser.resize(900, 700)
        whole = f"const view = (() => {{ {VIEW} }})(); if (!view) return false; const [x, y, scale] = view.split(',').map(Number);" \
                "const stage = document.getElementById('stage'); const most = arguments[0];" \
                "return x < 0 && y < 0 && x + stage.clientWidth / scale > most && y + stage.clientHeight / scale > most"
        browser.wait(whole, 5, SIDE, what="the image is shown whole in a smaller window")
        self.shot("small")
        self.browser.resize(1280, 800)
        browser.wait(whole, 5, SIDE)
        print("channels: hidden, shown, another colour, another contrast, kept when the page is loaded again")

    def labels(self):
        """What is drawn, and its rows."""
        data = self.page.download("drawn", self.out / "downloads")
        return field.read_png(data)

    def cells(self, count, what):
        self.browser.wait(CELLS, 10, count, what=what)

    def edit(self, act, what, cells=None):
        """Does what changes the drawing, and waits until the page has the change, and that many cells if it is told."""
        drawn = "return document.getElementById('stage').dataset.drawn"
        before = self.browser.wait(drawn, 10, what="what is drawn is known")
        act()
        self.browser.wait(f"{drawn} !== arguments[0]", 10, before, what=what)
        if cells is not None:
            self.cells(cells, what)

    def draw(self):
        """Brush and eraser with the mouse; what is drawn is what is downloaded."""
        browser, page = self.browser, self.page
        browser.key("b")
        # The brush is 12 pixels wide.
        self.edit(lambda: page.drag([(15, 25), (25, 25), (35, 25)]), "a stroke", 1)
        more = "a stroke that begins on a cell is more of it"
        self.edit(lambda: page.drag([(30, 25), (30, 40), (30, 50)]), more, 1)
        browser.wait("return document.querySelectorAll('#objects tbody tr').length === 1", 10)
        self.edit(lambda: page.drag([(30, 48), (45, 48)], held=SHIFT), "with Shift, another cell", 2)
        ring = [(90, 70), (100, 75), (105, 85), (100, 95), (90, 100), (80, 95), (75, 85), (80, 75), (90, 70)]
        for _ in range(6):
            browser.key("[")
        self.edit(lambda: page.drag(ring), "a ring", 3)
        rows = self.labels()
        one, other, third = rows[25][20], rows[48][42], rows[70][90]
        assert len({one, other, third}) == 3 and min(one, other, third) >= 2, (one, other, third)
        assert rows[40][30] == one and rows[85][90] == third, "more of the first cell; the ring is filled"
        assert [row[20] for row in rows[18:32]] == [0, *[one] * 12, 0], [row[20] for row in rows[15:35]]
        browser.key("e")
        for _ in range(6):
            browser.key("]")
        self.edit(lambda: page.drag([(75, 85), (105, 85)]), "the eraser")
        browser.wait("return document.getElementById('redo').disabled && !document.getElementById('undo').disabled", 10)
        browser.wait("return [...document.querySelectorAll('#objects tbody tr')].length >= 3", 10)
        self.shot("drawn")
        erased = self.labels()
        assert erased[85][90] == 0 and erased[70][90] >= 2 and erased[25][20] == one, "the eraser takes away what it goes over"
        # What is drawn is seen, as an object too, and both are hidden by their keys.
        seen = page.colour(20, 22)
        browser.key("1")
        browser.key("2")
        self.shows({(20, 22): (0, 255, 0)}, "hidden")
        browser.key("1")
        browser.key("2")
        self.shows({(20, 22): seen}, "shown")
        self.rows = erased
        print("tools: brush, more of a cell, a new one, a filled ring, eraser; downloaded as drawn")

    def undo(self):
        browser = self.browser
        for count in (3, 2, 1, 1, 0):
            self.edit(lambda: browser.key(CONTROL, "z"), "undo", count)
        browser.wait("return document.getElementById('undo').disabled", 10, what="nothing is left to be undone")
        for keys in ((CONTROL, SHIFT, "z"), (CONTROL, "y"), (CONTROL, "y"), (CONTROL, "y"), (CONTROL, "y")):
            self.edit(lambda pressed=keys: browser.key(*pressed), "redo")
        browser.wait("return document.getElementById('redo').disabled", 10, what="everything is done again")
        assert self.labels() == self.rows, "what is drawn is other than before undo and redo"
        print("undo and redo by keys: five steps back, five forth")

    def again(self):
        """The project opened again: by the page alone, and by a server with another token."""
        browser = self.browser
        count = self.page.counts()
        browser.key("1")  # hides what is found
        self.page.reload()
        browser.wait("return document.querySelectorAll('#objects tbody tr').length >= 3", 20, what="what is drawn is there again")
        assert self.page.counts() == count
        assert browser.script("return document.getElementById('show-found').checked"), "the page shows other ticks than it draws"
        self.server.stop()
        self.server.more = ("--token", "another")
        self.server.start()
        self.answer("another")
        browser.wait("return !document.getElementById('status').textContent.includes('No connection')", 20)
        assert not browser.script(OPEN, "d-token")
        self.open()
        browser.wait("return document.querySelectorAll('#projects button').length === 1", 20, what="the project is offered")
        browser.click("#projects button")
        browser.wait("return document.querySelectorAll('#objects tbody tr').length >= 3", 20, what="what is drawn is there again")
        assert self.labels() == self.rows
        # Another project can be looked for, and not be chosen.
        browser.click("#project")
        browser.wait(OPEN, 10, "d-project")
        browser.click("#leave-project button")
        assert not browser.script(OPEN, "d-project")
        print("opened again: by the page, after another token, from the list of projects")

    def table(self):
        """The table by keys, and that keys mean what is under the pointer now."""
        browser, page = self.browser, self.page
        count = page.counts()[0]
        row = lambda: browser.script("return document.querySelector('#objects [aria-selected=true]')?.dataset.id ?? null")
        page.hover(20, 25)
        self.focus_on("#objects tbody tr[tabindex='0']")
        browser.key(DOWN)
        first = row()
        browser.key(DOWN)
        second = row()
        assert first and second and first != second and not browser.script("return document.getElementById('actions').hidden")
        self.shot("table")
        browser.key("x")
        self.cells(count - 1, "the object that was chosen by arrows is erased, and not the one under the pointer")
        browser.wait("return document.querySelectorAll('#objects tbody tr').length === arguments[0]", 10, count - 1)
        assert browser.script("return document.activeElement.closest('#objects tbody') !== null"), "the focus has left the table"
        browser.key(CONTROL, "z")
        self.cells(count, "undo")
        # The pointer stays where it is while the image moves below it.
        browser.key(ESCAPE)
        browser.key("0")
        browser.key("v")
        page.hover(22, 27)
        page.hover(20, 25)
        self.focus_on("#stage")
        for _ in range(3):
            browser.key(DOWN)
        browser.key("x")
        browser.script("return new Promise((done) => setTimeout(done, 300))")
        assert page.counts()[0] == count, "what is no longer under the pointer was deleted"
        browser.key("0")
        browser.key("x")
        self.cells(count - 1, "what is under the pointer is deleted")
        browser.key(CONTROL, "z")
        self.cells(count, "undo")
        print("table: arrows choose, keys mean what is chosen or under the pointer now")

    def keys(self):
        browser = self.browser
        browser.key("?")
        browser.wait(OPEN, 10, "d-help")
        listed = browser.script("return [...document.querySelectorAll('#keys kbd')].map((one) => one.textContent)")
        assert {"P", "C", "B", "G", "E", "V", "Ctrl+Z", "?", "Esc", "Enter"} <= set(listed), listed
        self.shot("help")
        # Behind a dialog nothing happens, though the focus is nowhere.
        browser.script("document.activeElement.blur()")
        browser.key("d")
        browser.key("b")
        assert not browser.script(OPEN, "d-download")
        browser.key(ESCAPE)
        browser.wait("return !document.getElementById('d-help').open", 5, what="Esc closes the help")
        assert browser.script("return document.querySelector('[data-tool=select]').getAttribute('aria-pressed')") == "true"
        for key, tool in zip("pbgevh", ("polygon", "cell", "background", "eraser", "select", "pan")):
            browser.key(key)
            pressed = browser.script("return [...document.querySelectorAll('[aria-pressed=true][data-tool]')].map((o) => o.dataset.tool)")
            assert pressed == [tool], (key, pressed)
        # The space bar moves the image also when a button was clicked last, and presses one that was reached by the Tab key.
        browser.key("0")
        browser.click("[data-tool=cell]")
        view = "return document.getElementById('stage').dataset.view"
        before, count = browser.script(view), self.page.counts()
        self.page.drag([(60, 60), (70, 70), (80, 80)], held=" ")
        browser.wait("return document.getElementById('stage').dataset.view !== arguments[0]", 5, before, what="the image is moved")
        assert self.page.counts() == count, "the image was to be moved, and something was drawn"
        self.focus_on("#zoom-out")
        browser.key(TAB)
        before = browser.script(view)
        browser.key(" ")
        browser.wait("return document.getElementById('stage').dataset.view !== arguments[0]", 5, before, what="the button is pressed")
        browser.key("0")
        # The link at the very top leads to the image, and not away from the project.
        self.focus_on(".skip")
        browser.key(ENTER)
        assert browser.script("return [document.activeElement.id, location.hash]") == ["stage", "#project=Two%20channels"]
        print(f"keys: {len(listed)} are listed; tools by their keys; the space bar moves the image")

    def named(self, within=None):
        for index in self.browser.script(OPERABLE, within):
            selector = f"[data-walk='{index}']"
            name = self.browser.name(selector)
            assert name.strip(), self.browser.script("return document.querySelector(arguments[0]).outerHTML.slice(0, 200)", selector)

    def focus(self):
        """Everything that can be operated has a name and is reached by the Tab key, and where the focus is is seen."""
        browser = self.browser
        for dialog, how in (("d-help", "?"), ("d-download", "d")):
            browser.key(how)
            browser.wait(OPEN, 5, dialog)
            self.named(f"#{dialog}")
            browser.key(ESCAPE)
        browser.click("#project")
        browser.wait(OPEN, 5, "d-project")
        self.named("#d-project")
        browser.key(ESCAPE)
        browser.script("for (const one of document.querySelectorAll('[data-walk]')) delete one.dataset.walk")
        browser.key("v")
        browser.click("#objects tbody td")
        self.named()
        wanted = browser.script(OPERABLE)
        browser.script("document.activeElement.blur()")
        reached, unseen = set(), []
        for _ in range(len(wanted) + 12):
            if reached == set(wanted):
                break  # next is the browser's own
            browser.key(TAB)
            walk, seen, markup = browser.script(FOCUS)
            if walk is not None:
                reached.add(int(walk))
                if not seen:
                    unseen.append(markup)
        missed = [browser.script("return document.querySelector(arguments[0]).outerHTML.slice(0, 160)", f"[data-walk='{index}']")
                  for index in wanted if index not in reached]
        assert not missed and not unseen, (missed, unseen)
        browser.key(ESCAPE)
        print(f"by keyboard: {len(wanted)} things are reached, have a name, and show the focus")

    def take_out(self):
        browser = self.browser
        count = browser.script("return document.querySelectorAll('#images li').length")
        # At once, another image has nothing of what is drawn on this one.
        cells = browser.script("document.querySelector(\"#images [title^='again.tif']\").click();"
                               "return document.getElementById('stage').dataset.cells")
        assert cells == "0", cells
        browser.click("[aria-label='Take two.tif out of the project']")
        browser.accept()
        browser.wait(IMAGES, 10, count - 1, what="the image is taken out")
        while (count := count - 1):
            browser.click("#images .mini")
            browser.wait(IMAGES, 10, count - 1)
        browser.wait("return !document.getElementById('empty').hidden && document.getElementById('download').disabled", 10)
        assert browser.script("return document.getElementById('undo').disabled")

    def shot(self, name):
        self.browser.screenshot(self.out / f"handling-{name}.png")
